/* pol_module.c - see pol_module.h.
 *
 *   engine --> pol_ops --> this file: nodes, one list in the order of insertion
 *                              +--> the object's functions, with the numbers of the nodes
 *
 * What the engine relies on (where an entry is, how large, that a victim is one) is kept here, so
 * that an object's mistakes cost the order of eviction only.
 *
 * The object is opened once, looked at, and loaded from that same descriptor: nobody can put another file
 * in between.
 */
#define _GNU_SOURCE
#include "pol_module.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "hypercache_policy.h"
#include "pol_node.h"
#include "step.h"

enum { LIST = 1 };

_Static_assert((int)HYPERCACHE_POLICY_PARAMS_MAX == POL_PARAMS_MAX, "as many parameters");
_Static_assert((int)HYPERCACHE_POLICY_DURATION == POL_T_DURATION, "the same types");

struct module {
	struct pol_ops ops;
	struct pol_param params[POL_PARAMS_MAX];
	struct hypercache_policy its; /* what it has left out is NULL */
};

static struct module module[POL_MODULES_MAX];
static int n_modules;

struct modpol {
	struct pol pol;
	struct pol_nodes nodes;
	struct pol_list list; /* in the order of insertion */
	const struct hypercache_policy *its;
	void *state;
	struct pol_stats st;
};

static struct modpol *self(struct pol *p) { return (struct modpol *)(void *)p; }
static const struct modpol *self_const(const struct pol *p)
{
	return (const struct modpol *)(const void *)p;
}

/* ------------------------------------------------------------ a policy like the others */

static void module_free(struct pol *p)
{
	struct modpol *m = self(p);

	if (!p)
		return;
	if (m->state)
		m->its->destroy(m->state);
	pol_nodes_fini(&m->nodes);
	free(m);
}

static int module_new(const struct pol_ops *ops, uint64_t bytes, const struct pol_values *values,
	struct pol **ret)
{
	const struct pol_values v = values ? *values : pol_defaults(ops);
	struct modpol *m = calloc(1, sizeof *m);

	if (!m)
		return err_new(-ENOMEM);
	m->pol.ops = ops;
	m->its = &((const struct module *)(const void *)ops)->its;
	m->state = m->its->create(bytes, v.v);
	if (!m->state) {
		module_free(&m->pol);
		return err_new(-ENOMEM);
	}
	*ret = &m->pol;
	return 0;
}

static int module_insert(struct pol *p, uint64_t hash, uint64_t off, uint64_t bytes,
	uint64_t now_ms, uint32_t *ret_node)
{
	struct modpol *m = self(p);
	int r = pol_node_new(&m->nodes, off, bytes, 0, ret_node);

	if (r < 0)
		return err_fwd(r);
	if (m->its->insert(m->state, *ret_node, hash, bytes, now_ms) != 0) {
		pol_node_free(&m->nodes, *ret_node);
		return err_new(-ENOMEM);
	}
	pol_list_push(&m->nodes, &m->list, LIST, *ret_node);
	m->st.inserts++;
	return 0;
}

static void module_moved(struct pol *p, uint32_t node, uint64_t off)
{
	pol_node_set_off(pol_node_used(&self(p)->nodes, node), off);
}

static void module_replace(
	struct pol *p, uint32_t node, uint64_t off, uint64_t bytes, uint64_t now_ms)
{
	struct modpol *m = self(p);

	module_moved(p, node, off);
	pol_node_resize(&m->nodes, &m->list, node, bytes);
	if (m->its->overwrite)
		m->its->overwrite(m->state, node, bytes, now_ms);
}

static void module_touch(struct pol *p, uint32_t node, uint64_t now_ms)
{
	struct modpol *m = self(p);

	(void)pol_node_used(&m->nodes, node);
	m->its->hit(m->state, node, now_ms);
	m->st.touches++;
}

static void module_remove(struct pol *p, uint32_t node, int evicted)
{
	struct modpol *m = self(p);

	(void)pol_node_used(&m->nodes, node);
	m->its->remove(m->state, node, evicted);
	pol_list_pull(&m->nodes, &m->list, node);
	pol_node_free(&m->nodes, node);
	m->st.removes++;
}

static uint64_t module_where(const struct pol *p, uint32_t node)
{
	return pol_node_off(pol_node_used(&self_const(p)->nodes, node));
}

static int module_victim(struct pol *p, uint64_t now_ms, uint64_t *ret_off)
{
	struct modpol *m = self(p);

	if (m->list.n == 0)
		return 1;
	uint32_t i = m->its->victim(m->state, now_ms);
	if ((i == 0 || i >= m->nodes.n_made || pol_node_list(pol_node(&m->nodes, i)) != LIST) &&
		!MUTANT(300)) { /* 300: whatever it proposes is believed */
		p->odd = true;
		i = m->list.oldest;
	}
	*ret_off = pol_node_off(pol_node(&m->nodes, i));
	m->st.victims++;
	return 0;
}

static int module_admits(struct pol *p, uint64_t hash, uint64_t now_ms)
{
	struct modpol *m = self(p);

	return !m->its->admits || m->its->admits(m->state, hash, now_ms);
}

static void module_stats(const struct pol *p, struct pol_stats *ret)
{
	const struct modpol *m = self_const(p);

	*ret = m->st;
	ret->entries = m->list.n;
	ret->bytes = m->list.units * SHM_UNIT;
	ret->private_bytes = sizeof *m + pol_nodes_bytes(&m->nodes) +
	                     (m->its->memory ? m->its->memory(m->state) : 0);
}

static int module_verify(const struct pol *p)
{
	const struct modpol *m = self_const(p);
	int r = pol_list_verify(&m->nodes, &m->list, LIST);

	return r ? r : pol_nodes_verify(&m->nodes, m->list.n);
}

/* ------------------------------------------------------------ loading */

__attribute__((format(printf, 3, 4))) static int refuse(
	char why[POL_MODULE_WHY_BYTES], int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, POL_MODULE_WHY_BYTES, format, args);
	va_end(args);
	return err_new(r);
}

bool pol_module_name(const char *path, size_t n_path, char ret[POL_NAME_BYTES])
{
	size_t slash = n_path;

	while (slash > 0 && path[slash - 1] != '/')
		slash--;
	if (n_path == 0 || path[0] != '/' || n_path < slash + 4 ||
		memcmp(path + n_path - 3, ".so", 3) != 0 || n_path - 3 - slash >= POL_NAME_BYTES)
		return false;
	memset(ret, 0, POL_NAME_BYTES);
	memcpy(ret, path + slash, n_path - 3 - slash);
	return strspn(ret, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(ret);
}

/* A file that only root (or, for others, the daemon's own user) can have written. */
static int file_check(int fd, char *why)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse(why, -errno, "it cannot be looked at: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(why, -EINVAL, "it is no regular file; use a shared object");
	if (st.st_uid != 0 && (geteuid() == 0 || st.st_uid != geteuid()))
		return refuse(why, -EACCES,
			"it belongs to user %u, who could change what runs in the "
			"engine; give it to root",
			(unsigned)st.st_uid);
	if (st.st_mode & (S_IWOTH | S_IWGRP))
		return refuse(
			why, -EACCES, "others may write it; take that right away (chmod go-w)");
	return 0;
}

static int params_take(struct module *m, const struct hypercache_policy *its, char *why)
{
	if (its->n_params > POL_PARAMS_MAX ||
		(its->n_params && its->param_bytes != sizeof *its->params))
		return refuse(why, -EINVAL,
			"its list of parameters is not as hypercache_policy.h has it; "
			"build it anew");
	for (uint32_t i = 0; i < its->n_params; i++) {
		const struct hypercache_policy_param *a = &its->params[i];
		bool narrow = a->type == HYPERCACHE_POLICY_NUMBER ||
		              a->type == HYPERCACHE_POLICY_FRACTION;
		if (!a->name || strlen(a->name) >= POL_NAME_BYTES || !a->meaning || !a->unit ||
			a->type > HYPERCACHE_POLICY_DURATION || a->min > a->def ||
			a->def > a->max || (narrow && a->max >= UINT32_MAX))
			return refuse(why, -EINVAL,
				"its parameter %u makes no sense: name, type and "
				"min <= def <= max are wanted; correct it",
				i + 1);
		m->params[i] = (struct pol_param){.name = a->name,
			.type = (enum pol_type)a->type,
			.min = a->min,
			.max = a->max,
			.def = a->def,
			.unit = a->unit,
			.meaning = a->meaning};
	}
	return 0;
}

static const struct pol_ops module_ops = {
	.new = module_new,
	.free = module_free,
	.insert = module_insert,
	.replace = module_replace,
	.touch = module_touch,
	.remove = module_remove,
	.moved = module_moved,
	.where = module_where,
	.victim = module_victim,
	.admits = module_admits,
	.stats = module_stats,
	.verify = module_verify,
};

static int symbol_take(
	struct module *m, const struct hypercache_policy *its, const char *name, char *why)
{
	if (its->abi_major != HYPERCACHE_POLICY_MAJOR && !MUTANT(301)) /* 301: any will do */
		return refuse(why, -EINVAL,
			"it is built for version %u of hypercache_policy.h, this "
			"engine has %d; build it anew",
			its->abi_major, HYPERCACHE_POLICY_MAJOR);
	size_t n = its->bytes < sizeof m->its ? (size_t)its->bytes : sizeof m->its;
	*m = (struct module){.ops = module_ops};
	memcpy(&m->its, its, n);
	if (n < offsetof(struct hypercache_policy, overwrite) || !m->its.name || !m->its.meaning ||
		!m->its.create || !m->its.destroy || !m->its.insert || !m->its.hit ||
		!m->its.remove || !m->its.victim)
		return refuse(
			why, -EINVAL, "a function or a name is missing; see hypercache_policy.h");
	if (strcmp(m->its.name, name) != 0)
		return refuse(why, -EINVAL,
			"it calls itself %.40s; name the file so, or correct it", m->its.name);
	m->ops.name = m->its.name;
	m->ops.meaning = m->its.meaning;
	m->ops.params = m->params;
	m->ops.n_params = m->its.n_params;
	return err_fwd(params_take(m, &m->its, why));
}

int pol_module_load(const char *path, char why[POL_MODULE_WHY_BYTES])
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char name[POL_NAME_BYTES], proc[40];

	if (!pol_module_name(path, strlen(path), name))
		return refuse(
			why, -EINVAL, "it is no /PATH/NAME.so with a name of a-z 0-9 _ -; use one");
	if (pol_find(name))
		return refuse(why, -EEXIST, "there is a policy %s; give it another name", name);
	if (fd < 0)
		return refuse(why, -errno, "it cannot be opened: %s; use a readable file",
			strerror(errno));
	if (n_modules == POL_MODULES_MAX)
		return refuse(why, -E2BIG, "there are too many; use at most %d", POL_MODULES_MAX);
	int r = MUTANT(302) ? 0 : file_check(fd, why); /* 302: whoever may have written it */
	if (r < 0)
		return err_fwd(r);
	(void)snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	void *lib = dlopen(proc, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return refuse(why, -EINVAL,
			"it cannot be loaded: %.200s; use a shared object for this "
			"machine",
			dlerror());
	const struct hypercache_policy *its = dlsym(lib, "hypercache_policy");
	if (!its)
		r = refuse(why, -EINVAL,
			"it has no symbol hypercache_policy; see hypercache_policy.h");
	else
		r = symbol_take(&module[n_modules], its, name, why);
	if (r < 0) {
		(void)dlclose(lib);
		return err_fwd(r);
	}
	n_modules++;
	fd = -1; /* kept open: the next one must not come by the same name, which the loader would take for this one */
	return 0;
}

const struct pol_ops *pol_module_find(const char *name)
{
	for (int i = 0; i < n_modules; i++)
		if (strcmp(module[i].ops.name, name) == 0)
			return &module[i].ops;
	return NULL;
}
