/* sup_change.c - a change of the configuration, on its way to the engine.
 *
 *	asked for --> WAITS --> SENT --> TAKEN --> done
 *	                |         |        |
 *	    no engine:  |         |        engine dies: done, its successor makes it whole
 *	    done        |         engine dies, or refuses: nothing was changed
 *	                an engine that begins to serve gets it
 *
 * What holds is sup->config: every engine is given it whole.  It becomes the new one when the engine
 * says TAKEN, which it does before it changes the first byte, or when there is no engine.  So whoever dies
 * in between, the next engine has the old configuration or the new one, and makes the directory of
 * stores agree with it (eng_config.c).
 *
 * One change at a time; nobody is waited for.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "atomic.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum { TEXT_BYTES = 512 };

static const char *refusal_word(enum admin_refusal refusal)
{
#define WORD_(name, word, meaning) [ADMIN_R_##name] = word,
	static const char *const words[ADMIN_R_END] = {ADMIN_REFUSALS(WORD_)};
	return words[refusal];
}

/* Each line of the answer to the log, with spaces for tabs. */
static void lines_log(char *lines)
{
	for (char *line = lines, *end; line && *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = 0;
		for (char *tab = line; (tab = strchr(tab, '\t'));)
			*tab = ' ';
		log_info("configuration: %s", line);
	}
}

void sup_change_end(struct sup *sup, enum admin_refusal refusal, const char *fmt, ...)
{
	struct sup_change *c = &sup->change;
	char text[TEXT_BYTES] = "", *all = NULL;
	va_list ap;

	if (fmt) {
		va_start(ap, fmt);
		(void)vsnprintf(text, sizeof text, fmt, ap);
		va_end(ap);
	}
	int n = asprintf(&all, "%s%s%s%s", c->lines ? c->lines : "",
		!fmt      ? ""
		: refusal ? "error\t"
			  : "note\t",
		text, fmt ? "\n" : "");
	if (c->asker)
		sup_admin_reply(sup, c->asker, refusal, n < 0 ? "" : all, n < 0 ? 0 : (size_t)n);
	if (refusal)
		log_warn("the configuration stays as it is (%s): %s", refusal_word(refusal), text);
	else if (n >= 0)
		lines_log(all);
	if (n >= 0)
		free(all);
	sup_metrics_forget(sup);
	sup_memory_forget(sup); /* nothing is left of it but in a change that does not hold */
	free(c->lines);
	c->lines = NULL;
	c->asker = NULL;
	c->state = SUP_CHANGE_NONE;
}

void sup_change_forget(struct sup *sup, const struct sup_admin *a)
{
	if (sup->change.asker == a)
		sup->change.asker = NULL;
}

/* --------------------------------------------------------------------- sizes */

/* Looks whether pools can have their new sizes, and gets the memory; and the port of the metrics.  They have them when the change
 * holds.  False: refused, and said. */
static bool sizes_prepare(struct sup *sup)
{
	char why[SUP_WHY_BYTES];

	if (sup_metrics_prepare(sup, &sup->change.next, why) < 0) {
		sup_change_end(sup, ADMIN_R_CONFIG, "%s", why);
		return false;
	}
	if (sup_memory_prepare(sup, &sup->change.next, why) == 0)
		return true;
	sup_change_end(sup, ADMIN_R_MEMORY, "%s", why);
	return false;
}

/* -------------------------------------------------------------------- commit */

static void commit(struct sup *sup)
{
	struct sup_change *c = &sup->change;

	sup_memory_commit(sup, &c->next);
	sup->config = c->next;
	if (c->has_read) {
		sup->read = c->read;
		sup->places = c->places;
	}
	sup_store_sync(sup);
	log_set_level(sup->config.log_level);
	sup_metrics_commit(sup);
	if (chmod(sup->listen.path, sup_socket_mode(&sup->config)) != 0) /* admin_uids may be new */
		log_warn("the socket's mode cannot be changed: %s", strerror(errno));
	STEP("sup:change-holds");
}

static bool has_id(const struct config *c, uint64_t id)
{
	for (uint32_t i = 0; i < c->n_stores; i++)
		if (c->store[i].id == id)
			return true;
	return false;
}

/* A store that would go and holds entries, as the last engine counted them; NULL: there is none. */
static const struct shm_store_entry *used_store(const struct sup *sup)
{
	for (uint32_t i = 0; sup->ctl && i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &sup->ctl->store[i];
		uint64_t id = shm_load_rlx(&e->id);
		if (id && !has_id(&sup->change.next, id) &&
			shm_load_rlx(&e->counter[SHM_SC_entries]))
			return e;
	}
	return NULL;
}

static void end_in_use(struct sup *sup, const char *name, uint64_t entries)
{
	sup_change_end(sup, ADMIN_R_IN_USE,
		"store %.31s holds %llu entr%s, which would be gone: clear it before, or use "
		"--force",
		name, (unsigned long long)entries, entries == 1 ? "y" : "ies");
}

static void without_engine(struct sup *sup)
{
	const struct shm_store_entry *used = sup->change.force ? NULL : used_store(sup);

	if (used) {
		end_in_use(sup, used->name, shm_load_rlx(&used->counter[SHM_SC_entries]));
		return;
	}
	if (sup->ctl && !sizes_prepare(sup)) /* without memory: the next is made as configured */
		return;
	commit(sup);
	sup_change_end(sup, ADMIN_R_NONE, "no engine runs now: the next one begins with it");
}

/* ----------------------------------------------------------------------- way */

static void send_it(struct sup *sup)
{
	static struct sup_config_msg m; /* large */
	struct sup_change *c = &sup->change;

	if (!sizes_prepare(sup))
		return;
	m.msg = (struct sup_msg){
		.kind = SUP_MSG_CONFIG, .id = c->number, .force = c->force, .pool_id = c->pool_id};
	m.config = c->next;
	if (sup_memory_send(sup) < 0 || send(sup->engine.channel, &m, sizeof m,
						MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof m) {
		sup_change_end(sup, ADMIN_R_BUSY, "the engine does not take messages: try again");
		return;
	}
	c->state = SUP_CHANGE_SENT;
	STEP("sup:change-sent");
}

void sup_change_go(struct sup *sup)
{
	if (sup->change.state != SUP_CHANGE_WAITS)
		return;
	switch (sup->engine.state) {
	case ADMIN_ENGINE_STARTING:
		return;
	case ADMIN_ENGINE_WAITING:
		without_engine(sup);
		return;
	case ADMIN_ENGINE_SERVING:
		send_it(sup);
		return;
	case ADMIN_ENGINE_STOPPING:
		sup_change_end(sup, ADMIN_R_BUSY, "the daemon is about to end");
	}
}

void sup_change_begin(struct sup *sup)
{
	struct sup_change *c = &sup->change;

	c->number++;
	c->state = SUP_CHANGE_WAITS;
	c->pool_id = sup->next_id;
	sup->next_id += c->next.n_pools - sup->config.n_pools;
	for (uint32_t i = 0; i < c->next.n_stores; i++)
		if (c->next.store[i].id == 0)
			c->next.store[i].id = MUTANT(183) ? sup->next_id /* 183: ids recur */
			                                  : sup->next_id++;
	sup_store_write(sup); /* ids that were given are never given again */
	if (c->asker)
		c->asker->waits = true;
	sup_change_go(sup);
}

static const char *name_of(const struct config *c, uint64_t id)
{
	for (uint32_t i = 0; i < c->n_stores; i++)
		if (c->store[i].id == id)
			return c->store[i].name;
	return "?";
}

static void on_refused(struct sup *sup, const struct sup_msg *m)
{
	char why[SUP_WHY_BYTES];

	switch (m->refusal) {
	case ADMIN_R_IN_USE:
		end_in_use(sup, name_of(&sup->config, m->store_id), m->n);
		return;
	case ADMIN_R_MEMORY:
		sup_memory_held(m->n, why);
		sup_change_end(sup, ADMIN_R_MEMORY, "pool %s cannot be resized: %.300s",
			m->slot < sup->config.n_pools ? sup->config.pool[m->slot].name : "?", why);
		return;
	case ADMIN_R_FULL:
		sup_change_end(sup, ADMIN_R_FULL,
			"entries of dropped stores are still being removed: try again");
		return;
	default:
		sup_change_end(sup, ADMIN_R_NO_MEMORY, "the engine has no memory for it");
	}
}

int sup_change_on_message(struct sup *sup, const struct sup_msg *m)
{
	struct sup_change *c = &sup->change;
	bool sent = c->state == SUP_CHANGE_SENT, taken = c->state == SUP_CHANGE_TAKEN;

	if (m->id != c->number)
		return err_new(-EBADMSG);
	if (m->kind == SUP_MSG_CONFIG_TAKEN && sent) {
		commit(sup);
		c->state = SUP_CHANGE_TAKEN;
	} else if (m->kind == SUP_MSG_CONFIG_DONE && taken) {
		sup_change_end(sup, ADMIN_R_NONE, NULL);
	} else if (m->kind == SUP_MSG_CONFIG_REFUSED && sent) {
		on_refused(sup, m);
	} else {
		return err_new(-EBADMSG);
	}
	return 0;
}

void sup_change_on_death(struct sup *sup)
{
	switch (sup->change.state) {
	case SUP_CHANGE_SENT:
		sup_change_end(sup, ADMIN_R_DIED,
			"the engine died before it had taken the change: try again");
		return;
	case SUP_CHANGE_TAKEN:
		sup_change_end(sup, ADMIN_R_NONE,
			"the engine died meanwhile: its successor makes the change whole");
		return;
	default:
		sup_change_go(sup);
	}
}
