/* unit_state.c - does a supervisor that takes over refuse by name what it does not know, and everything that is not
 * whole, without harm? */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../daemon/sup_state.h"
#include "../kit/t.h"

/* A state as another build might have written it. */
static const char good[] =
	"hypercached-state 1\n"
	"layout 1 0\nrelease 9.9\ndaemon a1b2\n"
	"?later than this build\n"
	"ready 1\nnext 77\ndenied 0\nengine 5 1\n"
	"file /etc/x y.yaml\nset log_level=debug\n"
	"config 24\nsocket: /s\ndata_dir: /d\nread 24\nsocket: /s\ndata_dir: /d\n"
	"from log_level option 0\n"
	"store 12 1 default\n"
	"blame 0 1 2 3\n"
	"socket clients 10 1 2 /run/s p\nsocket admin 11 1 3 /run/a\n"
	"segment control 12 4 194560 base pages\n"
	"segment journal 13 4 4096 base pages\n"
	"segment region.0.0 14 4 16777216 base pages\n"
	"session 3 ff 1 2 1 1 0 4711 20 21\n"
	"fd lock 15\nfd panic 16\nfd folder 17\nfd back 18\n"
	"end\n";

static int state_fd(const char *text, size_t n, bool seal)
{
	int fd = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, n), (ssize_t)n);
	if (seal)
		CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
}

static void forget(struct sup *sup, struct sup_state *st)
{
	free(sup->session);
	free((char *)(uintptr_t)st->source.file);
	for (uint32_t i = 0; i < st->source.n_set; i++)
		free((char *)(uintptr_t)st->source.set[i]);
}

static int read_text(const char *text, size_t n, struct sup *sup, struct sup_state *st,
	char why[SUP_STATE_WHY_BYTES])
{
	int fd = state_fd(text, n, true);

	sup_init(sup);
	int r = sup_state_read(fd, sup, st, why);
	CHECK_EQ(close(fd), 0);
	return r;
}

static struct sup sup;
static struct sup_state st;

TEST(what_another_build_wrote_is_read)
{
	char why[SUP_STATE_WHY_BYTES] = "";
	int r = read_text(good, strlen(good), &sup, &st, why);

	CHECK_STR(why, "");
	CHECK_EQ(r, 0);
	CHECK_EQ(st.layout_major, 1);
	CHECK_EQ(st.daemon_id, 0xa1b2);
	CHECK_EQ(st.back_fd, 18);
	CHECK_STR(sup.source->file, "/etc/x y.yaml");
	CHECK_EQ(sup.source->n_set, 1);
	CHECK_EQ(sup.config.store[0].id, 12);
	CHECK(sup.config.store[0].by_admin);
	CHECK_EQ(sup.next_id, 77);
	CHECK_EQ(sup.blame[0].n, 3);
	CHECK_STR(sup.listen.path, "/run/s p");
	CHECK_EQ(sup.session[3].id, 0xff);
	CHECK_EQ(sup.session[3].pidfd, 21);
	CHECK_EQ(sup.session[4].memfd, -1);
	CHECK_STR(sup.region[0][0].why, "base pages");
	forget(&sup, &st);
}

/* good with `line` in place of its line `at`; refused, with `text`. */
static void refused(const char *at, const char *line, const char *text)
{
	char all[2 * sizeof good], why[SUP_STATE_WHY_BYTES] = "";
	const char *from = strstr(good, at);

	CHECK(from != NULL);
	int n = snprintf(all, sizeof all, "%.*s%s%s", (int)(from - good), good, line,
		strchr(from, '\n') + 1);
	CHECK_EQ(read_text(all, (size_t)n, &sup, &st, why), -EPROTO);
	if (!strstr(why, text))
		t_fail(__FILE__, __LINE__, "\"%s\" for %s", why, line);
	forget(&sup, &st);
}

TEST(what_is_not_known_is_refused_by_its_name)
{
	refused("hypercached-state", "hypercached-state 2\n", "another form");
	refused("hypercached-state", "nonsense\n", "another form");
	refused("layout", "layout 2 0\n", "of layout");
	refused("layout", "layout x\n", "\"layout\"");
	refused("?later", "later than this build\n", "\"later\"");
	refused("fd lock", "fd more 3\n", "\"more\"");
	refused("config", "config 9999999\n", "\"config\"");
	refused("config", "config 0\n", "line \"socket:\"");
	refused("session", "session 99999 ff 1 2 1 1 0 4711 20 21\n", "\"session\"");
	refused("session", "session 3 0 1 2 1 1 0 4711 20 21\n", "\"session\"");
	refused("segment reg", "segment region.16.0 14 4 1 x\n", "\"segment\"");
	refused("segment reg", "", "not whole");
	refused("store", "store 12 1 none\n", "\"store\"");
	refused("store", "", "not whole");
	refused("daemon", "", "not whole");
	refused("end", "", "not whole");
	refused("socket clients", "socket others 10 1 2 /run/s\n", "\"socket\"");
	refused("blame", "blame 16 1\n", "\"blame\"");
}

/* One that may still change is none. */
TEST(what_is_not_sealed_is_refused)
{
	char why[SUP_STATE_WHY_BYTES];
	int fd = state_fd(good, strlen(good), false);

	sup_init(&sup);
	CHECK(sup_state_read(fd, &sup, &st, why) < 0);
	CHECK(sup_state_read(-1, &sup, &st, why) < 0);
	CHECK_EQ(sup_state_back(fd), -1);
	CHECK_EQ(close(fd), 0);
}

/* Cut off, and with bytes that are others: an answer, whatever it is. */
TEST(damage_does_no_harm)
{
	static char text[sizeof good];
	char why[SUP_STATE_WHY_BYTES];

	for (size_t n = 0; n < strlen(good); n += 1 + t_random_below(9)) {
		CHECK(read_text(good, n, &sup, &st, why) < 0);
		forget(&sup, &st);
	}
	for (int i = 0; i < 2000; i++) {
		memcpy(text, good, sizeof good);
		for (int k = 0; k < 3; k++)
			text[t_random_below(strlen(good))] = (char)t_random();
		(void)read_text(text, strlen(good), &sup, &st, why);
		forget(&sup, &st);
	}
}
