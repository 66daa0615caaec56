/* eng_peer.c - who is at the other end, and what the configuration lets him do.
 *
 * All comes from the kernel, as it was when the process connected: SO_PEERCRED, and SO_PEERGROUPS
 * for the groups beside its first.  Nothing of it comes from the client.
 *
 *   root, our own user   may read and change every pool: the kernel would let them into our
 *                        memory anyway, and a refusal would only pretend otherwise
 *   admin_uids           may read every pool: the admin socket gives them the same memory
 *   others               as the lists of each pool say; to change a pool takes both of its rights
 *
 * A user of a container without a user namespace has the number that he has there; one whose
 * number is not mapped into ours comes as the kernel's overflow user, 65534.
 */
#include "eng.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "step.h"

enum { PEER_GROUPS = 64 }; /* room for the first try; NGROUPS_MAX for the second */

static int peer_cred(int sock, struct ucred *ret)
{
	socklen_t n = sizeof *ret;

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, ret, &n) == 0 ? 0 : err_new(-errno);
}

int eng_peer_uid(int sock, uint32_t *ret)
{
	struct ucred cred;
	int r = peer_cred(sock, &cred);

	if (r == 0)
		*ret = cred.uid;
	return err_fwd(r);
}

/* The process's group, then its others, on the heap.  0 or -errno. */
static int peer_groups(int sock, uint32_t gid, uint32_t **ret, size_t *ret_n)
{
	socklen_t bytes = PEER_GROUPS * sizeof(uint32_t);

	for (int i = 0; i < 2; i++) {
		_cleanup_free_ uint32_t *list = malloc(sizeof gid + bytes);
		if (!list)
			return err_new(-ENOMEM);
		list[0] = gid;
		if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, list + 1, &bytes) == 0) {
			*ret_n = 1 + bytes / sizeof *list;
			*ret = steal_ptr(list);
			return 0;
		}
		if (errno != ERANGE) { /* a kernel before 4.13: the first group is all we know */
			*ret_n = 1;
			*ret = steal_ptr(list);
			return 0;
		}
	}
	return err_new(-ERANGE);
}

static bool is_admin(const struct config *c, uint32_t uid)
{
	for (uint32_t i = 0; i < c->admin_uids.n; i++)
		if (c->admin_uids.uid[i] == uid)
			return true;
	return false;
}

int eng_peer_get(struct eng *e, int sock, struct eng_peer *ret)
{
	_cleanup_free_ uint32_t *gid = NULL;
	struct ucred cred;
	size_t n = 0;
	int r = peer_cred(sock, &cred);

	if (r == 0)
		r = peer_groups(sock, cred.gid, &gid, &n);
	if (r < 0)
		return err_fwd(r);
	bool master = cred.uid == 0 || cred.uid == geteuid();
	bool admin = is_admin(e->config, cred.uid);
	*ret = (struct eng_peer){.uid = cred.uid, .gid = cred.gid, .pid = cred.pid};
	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		const struct config_pool *p = &e->config->pool[i];
		bool listed = config_rights_name(&p->read, cred.uid, gid, n);
		bool may_read = master || admin || listed;
		bool may_write = master ||
		                 (may_read && config_rights_name(&p->write, cred.uid, gid, n));
		ret->read_pools |= (uint32_t)may_read << i;
		ret->write_pools |= (uint32_t)may_write << i;
	}
	return 0;
}
