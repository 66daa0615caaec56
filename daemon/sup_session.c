/* sup_session.c - the sessions' segments, kept so that every engine finds every living
 * reader's pins (rule P16).  The supervisor does not look inside. */
#include <errno.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "sup.h"

static void session_close(struct sup_session *s)
{
	cleanup_closep_(&s->memfd);
	cleanup_closep_(&s->pidfd);
	*s = (struct sup_session){.memfd = -1, .pidfd = -1};
}

int sup_session_put(struct sup *sup, const struct sup_msg *m, int *fds, uint32_t n_fds)
{
	int r = 0;

	if (n_fds < 1 || n_fds > 2 || m->n_fds != n_fds || m->slot >= sup->config.max_clients ||
		m->id == 0 || sup->session[m->slot].id != 0)
		r = err_new(-EINVAL);
	if (r == 0) {
		sup->session[m->slot] = (struct sup_session){
			.id = m->id,
			.uid = m->uid,
			.gid = m->gid,
			.read_pools = m->read_pools,
			.write_pools = m->write_pools,
			.fence = m->fence,
			.pid = m->pid,
			.memfd = steal_fd(fds[0]),
			.pidfd = n_fds == 2 ? steal_fd(fds[1]) : -1,
		};
		sup_store_session(sup, m->slot);
		log_debug("session %016llx of process %d kept in slot %u",
			(unsigned long long)m->id, m->pid, m->slot);
	}
	for (uint32_t i = 0; i < n_fds; i++)
		cleanup_closep_(&fds[i]);
	return r;
}

int sup_session_drop(struct sup *sup, const struct sup_msg *m)
{
	if (m->slot >= sup->config.max_clients || m->id == 0 || sup->session[m->slot].id != m->id)
		return err_new(-EINVAL);
	session_close(&sup->session[m->slot]);
	sup_store_session_over(sup, m->slot, m->id);
	log_debug("session %016llx dropped from slot %u", (unsigned long long)m->id, m->slot);
	return 0;
}

int sup_session_rights(struct sup *sup, const struct sup_msg *m)
{
	if (m->slot >= sup->config.max_clients || m->id == 0 || sup->session[m->slot].id != m->id)
		return err_new(-EINVAL);
	sup->session[m->slot].read_pools = m->read_pools;
	sup->session[m->slot].write_pools = m->write_pools;
	sup_store_write(sup);
	return 0;
}

uint32_t sup_session_count(const struct sup *sup)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < sup->config.max_clients; i++)
		n += sup->session[i].id != 0;
	return n;
}

void sup_session_close_all(struct sup *sup)
{
	for (uint32_t i = 0; sup->session && i < sup->config.max_clients; i++)
		session_close(&sup->session[i]);
}
