/* fake_session.h - a handle of libclient whose other end is a script (fake_engine.h). */
#ifndef HC_FAKE_SESSION_H
#define HC_FAKE_SESSION_H

#include "fake_engine.h"
#include "hc_i.h"

struct session {
	struct fake f;
	struct hc *hc;
	struct hc_store *s;
};

/* Of a fake that the test has made; o as for hc_open() but for the socket. */
static inline void session_open(
	struct session *x, void (*script)(struct fake *f), struct hc_open_opts o)
{
	fake_run(&x->f, script);
	o.size = sizeof o;
	o.socket = x->f.path;
	if (!o.timeout_ms)
		o.timeout_ms = (uint32_t)t_limit_ms(FAKE_WAIT_MS);
	CHECK_EQ(hc_open(&x->hc, &o), HC_OK);
	CHECK_EQ(hc_store(x->hc, "default", &x->s), HC_OK);
}

static inline void session_begin(struct session *x, void (*script)(struct fake *f))
{
	fake_init(&x->f);
	session_open(x, script, (struct hc_open_opts){0});
}

static inline void session_end(struct session *x)
{
	hc_close(x->hc);
	fake_join(&x->f);
	fake_fini(&x->f);
}

#endif
