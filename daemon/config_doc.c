/* config_doc.c - the table as help text, as manual page, and as a file of effective values. */
#include <string.h>
#include "config.h"
#include "config_value.h"
#include "pol.h"

enum { HELP_COLUMNS = 80 };

static const struct {
	enum config_scope scope;
	const char *title, *line;
} scopes[] = {
	{CONFIG_ROOT, "At the top of the file", ""},
	{CONFIG_POOL, "Of each pool (1 to 16)", "pools: NAME"},
	{CONFIG_STORE, "Of each store (1 to 64)", "stores: NAME"},
};
_Static_assert(CONFIG_POOLS_MAX == 16 && CONFIG_STORES_MAX == 64, "the titles say so");

/* Words of `text` in lines of HELP_COLUMNS, each behind `indent` spaces. */
static void help_wrap(FILE *to, int indent, const char *text)
{
	int at = 0;

	while (*text) {
		int n = (int)strcspn(text, " ");
		if (at && at + 1 + n > HELP_COLUMNS) {
			putc('\n', to);
			at = 0;
		}
		at += fprintf(to, "%*s%.*s", at ? 1 : indent, "", n, text);
		text += n;
		text += strspn(text, " ");
	}
	putc('\n', to);
}

static void help_policies(FILE *to)
{
	char allowed[192], def[CONFIG_PARAM_BYTES];

	fputs("\nPolicies, and their parameters under policy_params:\n", to);
	for (const struct pol_ops *const *o = pol_all(); *o; o++) {
		fprintf(to, "\n  %s\n", (*o)->name);
		help_wrap(to, 6, (*o)->meaning);
		for (uint32_t i = 0; i < (*o)->n_params; i++) {
			const struct pol_param *p = &(*o)->params[i];
			fprintf(to, "    %s: %s\n", p->name, config_param_default(p, def));
			help_wrap(to, 8, config_param_allowed(p, allowed, sizeof allowed));
			help_wrap(to, 8, p->meaning);
		}
	}
}

void config_help(FILE *to)
{
	char allowed[192];

	fputs("The configuration file is YAML. Every key may be left out.\n"
	      "Sizes are whole numbers with B, KiB, MiB, GiB or TiB; durations with\n"
	      "ns, us, ms, s, m, h or d. Keys marked with * change by a reload; the others\n"
	      "take a new start.\n",
		to);
	for (size_t s = 0; s < sizeof scopes / sizeof *scopes; s++) {
		fprintf(to, "\n%s%s%s:\n", scopes[s].title, *scopes[s].line ? ", under " : "",
			scopes[s].line);
		for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS;
			k++) {
			if (k->scope != scopes[s].scope)
				continue;
			fprintf(to, "\n%c %s: %s\n", k->live ? '*' : ' ', k->name, k->def);
			help_wrap(to, 6, config_value_allowed(k, allowed, sizeof allowed));
			help_wrap(to, 6, k->meaning);
		}
	}
	help_policies(to);
}

/* Text as roff takes it literally, each sentence on a line of its own. */
static void man_text(FILE *to, const char *text)
{
	for (bool bol = true; *text; text++) {
		if (bol && (*text == '.' || *text == '\''))
			fputs("\\&", to);
		bol = false;
		if (text[0] == '.' && text[1] == ' ') {
			fputs(".\n", to);
			text++;
			bol = true;
		} else if (*text == '\\') {
			fputs("\\e", to);
		} else {
			putc(*text, to);
		}
	}
	putc('\n', to);
}

static void man_keys(FILE *to, enum config_scope scope)
{
	char allowed[192];

	fputs(".Bl -tag -width Ds\n", to);
	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++) {
		if (k->scope != scope)
			continue;
		fprintf(to, ".It Cm %s : Ar %s\n", k->name, k->def);
		man_text(to, k->meaning);
		fputs(".br\n", to);
		fprintf(to, "Accepted: %s.\n", config_value_allowed(k, allowed, sizeof allowed));
		fputs(k->live ? "Changed by a reload.\n" : "Changed by a new start only.\n", to);
	}
	fputs(".El\n", to);
}

static void man_policies(FILE *to)
{
	char allowed[192], def[CONFIG_PARAM_BYTES];

	fputs(".Ss Policies\n"
	      "What\n.Cm policy\nmay be, and with each its parameters under\n.Cm policy_params .\n"
	      ".Bl -tag -width Ds\n",
		to);
	for (const struct pol_ops *const *o = pol_all(); *o; o++) {
		fprintf(to, ".It Cm %s\n", (*o)->name);
		man_text(to, (*o)->meaning);
		if ((*o)->n_params)
			fputs(".Bl -tag -width Ds -compact\n", to);
		for (uint32_t i = 0; i < (*o)->n_params; i++) {
			const struct pol_param *p = &(*o)->params[i];
			fprintf(to, ".It Cm %s : Ar %s\n", p->name, config_param_default(p, def));
			man_text(to, p->meaning);
			fprintf(to, "Accepted: %s.\n",
				config_param_allowed(p, allowed, sizeof allowed));
		}
		if ((*o)->n_params)
			fputs(".El\n", to);
	}
	fputs(".El\n", to);
}

void config_man(FILE *to)
{
	fputs(".\\\" Printed from the table of keys; do not edit.\n"
	      ".Dd November 21, 2026\n"
	      ".Dt HYPERCACHE.YAML 5\n"
	      ".Os\n"
	      ".Sh NAME\n"
	      ".Nm hypercache.yaml\n"
	      ".Nd configuration of the shared-memory cache daemon\n"
	      ".Sh SYNOPSIS\n"
	      ".Nm hypercached\n"
	      ".Fl -config Ar hypercache.yaml\n"
	      ".Sh DESCRIPTION\n"
	      "The file is YAML: one document, a mapping of keys to values, in UTF-8, of at most "
	      "1MiB.\n"
	      "Every key may be left out, and an empty file means the defaults.\n"
	      "An unknown or repeated key, a wrong value, an anchor, an alias, a tag, a directive "
	      "or a\n"
	      "second document is an error, and the daemon does not start; the message names file, "
	      "line\n"
	      "and column, and what would be right.\n"
	      ".Pp\n"
	      "A running daemon reads the file again when it is told to, see\n"
	      ".Xr hypercached 8 :\n"
	      "stores may come and go, pools may come, and each key below says whether it may "
	      "change.\n"
	      ".Pp\n"
	      "A size is a whole number with B, KiB, MiB, GiB or TiB; without a unit it means "
	      "bytes.\n"
	      "A duration is a whole number with ns, us, ms, s, m, h or d; only 0 needs no unit.\n"
	      "The value behind each key below is its default.\n",
		to);
	for (size_t s = 0; s < sizeof scopes / sizeof *scopes; s++) {
		fprintf(to, ".Ss \\&%s\n", scopes[s].title);
		if (*scopes[s].line)
			fprintf(to, "These stand under\n.Ql %s\n", scopes[s].line);
		man_keys(to, scopes[s].scope);
	}
	man_policies(to);
	fputs(".Pp\n"
	      "A name is 1 to 31 of the characters A-Z a-z 0-9 _ . and -, but not auto.\n"
	      "A file that names no pool has one, main; a file that names no store has one, "
	      "default.\n"
	      ".Sh FILES\n"
	      ".Bl -tag -width Ds\n"
	      ".It Pa /etc/hypercache.yaml\n"
	      "What the service\n"
	      ".Pa hypercached.service\n"
	      "is started with; without\n"
	      ".Fl -config\n"
	      "no file is read.\n"
	      ".El\n"
	      ".Sh EXAMPLES\n"
	      ".Bd -literal -offset indent\n"
	      "pools:\n"
	      "  main:\n"
	      "    size: 1GiB\n"
	      "    huge_pages: on\n"
	      "  small:\n"
	      "stores:\n"
	      "  pages: { pool: main, ttl: 10m }\n"
	      "  users: { pool: small }\n"
	      ".Ed\n"
	      ".Sh SEE ALSO\n"
	      ".Xr hypercache 1 ,\n"
	      ".Xr hypercache 3 ,\n"
	      ".Xr hypercached 8\n",
		to);
}

static void keys_print(enum config_scope scope, const void *obj, const char *indent, FILE *to)
{
	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++) {
		if (k->scope != scope)
			continue;
		fprintf(to, "%s%s: ", indent, k->name);
		config_value_print(k, (const char *)obj + k->offset, to);
		putc('\n', to);
	}
}

void config_print(const struct config *c, FILE *to)
{
	keys_print(CONFIG_ROOT, c, "", to);
	fputs("pools:\n", to);
	for (uint32_t i = 0; i < c->n_pools; i++) {
		fprintf(to, "  \"%s\":\n", c->pool[i].name);
		keys_print(CONFIG_POOL, &c->pool[i], "    ", to);
	}
	fputs("stores:\n", to);
	for (uint32_t i = 0; i < c->n_stores; i++) {
		fprintf(to, "  \"%s\":\n", c->store[i].name);
		keys_print(CONFIG_STORE, &c->store[i], "    ", to);
	}
}
