/* config_rights.c - who may: "any", "owner", or a list of users and groups.
 *
 * A name becomes its number when the file is read, by the host's own data base: a name that it
 * does not have is an error of the file, with its place.  What is kept and printed is numbers.
 */
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"
#include "config_value.h"
#include "../shm/step.h"

enum { ID_NAME_BYTES = 64 };

/* The number of a user or group.  0; 1: there is none of that name. */
static int id_of_name(const char *name, bool is_group, uint32_t *ret)
{
	const struct passwd *user = is_group ? NULL : getpwnam(name);
	const struct group *group = is_group ? getgrnam(name) : NULL;

	if (!user && !group)
		return 1;
	*ret = is_group ? group->gr_gid : user->pw_uid;
	return 0;
}

/* "user:NAME", "uid:N", "group:NAME" or "gid:N" in text[0..n), behind those that r has. */
static int element_parse(
	const struct config_key *k, const char *text, size_t n, struct config_rights *r, char *why)
{
	static const struct {
		const char *prefix;
		bool is_group, is_name;
	} kinds[] = {{"user:", false, true}, {"uid:", false, false}, {"group:", true, true},
		{"gid:", true, false}};
	char q[CONFIG_QUOTE_BYTES], word[ID_NAME_BYTES];
	size_t i = 0, skip = 0;

	(void)config_quote(text, n, q);
	for (; i < sizeof kinds / sizeof *kinds; i++) {
		skip = strlen(kinds[i].prefix);
		if (n > skip && memcmp(text, kinds[i].prefix, skip) == 0)
			break;
	}
	if (i == sizeof kinds / sizeof *kinds || n - skip >= sizeof word)
		return config_value_refuse(k, why, "%s is no user or group", q);
	memcpy(word, text + skip, n - skip);
	word[n - skip] = '\0';
	uint32_t id = 0;
	if (kinds[i].is_name) {
		if (id_of_name(word, kinds[i].is_group, &id))
			return config_value_refuse(k, why, "%s is not known to this host", q);
	} else {
		const char *end = word;
		uint64_t number = 0;
		if (config_digits_parse(&end, &number) || *end || number >= UINT32_MAX)
			return config_value_refuse(k, why, "%s is no number of one", q);
		id = (uint32_t)number;
	}
	if (r->n == strtoul(k->max, NULL, 10))
		return config_value_refuse(k, why, "there are too many users and groups");
	r->who[r->n].is_group = kinds[i].is_group;
	r->who[r->n++].id = id;
	return 0;
}

int config_rights_parse(
	const struct config_key *k, const char *text, void *field, char why[CONFIG_WHY_BYTES])
{
	struct config_rights r = {.kind = CONFIG_RIGHTS_LIST};

	if (strcmp(text, "any") == 0) {
		r.kind = CONFIG_RIGHTS_ANY;
	} else if (strcmp(text, "auto") == 0 && strcmp(k->def, "auto") == 0) {
		r.kind = CONFIG_RIGHTS_AUTO;
	} else if (strcmp(text, "owner") != 0) {
		for (const char *p = text;; p++) {
			p += strspn(p, " ");
			size_t n = strcspn(p, ", ");
			int ret = element_parse(k, p, n, &r, why);
			if (ret < 0)
				return ret;
			p += n;
			p += strspn(p, " ");
			if (*p == '\0')
				break;
			if (*p != ',')
				return config_value_refuse(
					k, why, "there is no comma between two names");
		}
	}
	memcpy(field, &r, sizeof r);
	return 0;
}

const char *config_rights_format(const struct config_rights *r, char *to, size_t to_bytes)
{
	size_t at = 0;

	if (r->kind != CONFIG_RIGHTS_LIST || r->n == 0) {
		(void)snprintf(to, to_bytes, "%s",
			r->kind == CONFIG_RIGHTS_ANY    ? "any"
			: r->kind == CONFIG_RIGHTS_AUTO ? "auto"
							: "owner");
		return to;
	}
	for (uint32_t i = 0; i < r->n && at < to_bytes; i++)
		at += (size_t)snprintf(to + at, to_bytes - at, "%s%s:%" PRIu32, i ? ", " : "[",
			r->who[i].is_group ? "gid" : "uid", r->who[i].id);
	if (at < to_bytes)
		(void)snprintf(to + at, to_bytes - at, "]");
	return to;
}

bool config_rights_name(
	const struct config_rights *r, uint32_t uid, const uint32_t *gid, size_t n_gids)
{
	if (r->kind == CONFIG_RIGHTS_ANY)
		return true;
	for (uint32_t i = 0; i < r->n; i++) {
		if (!r->who[i].is_group && r->who[i].id == uid)
			return true;
		for (size_t g = 0; r->who[i].is_group && g < n_gids; g++)
			if (r->who[i].id == gid[g] &&
				!MUTANT(80)) /* 80: groups are not looked at */
				return true;
	}
	return false;
}
