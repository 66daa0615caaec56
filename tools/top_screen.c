/* top_screen.c - top on a terminal, with ncurses.
 *
 *   this process    keeps what the terminal was, starts a worker, waits, and restores the terminal if it must
 *   its worker      looks and draws; leaves the terminal as it was when it ends by itself or by a signal
 *
 * Two processes, because nothing can be relied on in a process that has crashed or been killed.  Signals that end
 * programs are blocked in both, and taken as events: the worker takes them from a descriptor, this process hands
 * on what it gets.  If this process is killed, the worker is told by the kernel.
 */
#include "top.h"
#ifdef HC_NCURSES
#include <curses.h>
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>
#include "../daemon/sup_host.h"
#include "base/cleanup.h"
#include "step.h"

enum {
	HEAD_LINES = 5, /* above the rows */
	KEY_ESC = 27,
	EXIT_NO_SCREEN = 100,
	LOOK_MS = 1000, /* the supervisor has to answer within this time */
};
enum { PAIR_BAD = 1, PAIR_ODD = 2 };

struct screen {
	struct top *top;
	uint32_t view;
	struct top_order order[TOP_N_VIEWS];
	uint32_t scroll; /* the first row that is shown */
	bool paused, help, typing, colours, end;
	uint64_t next_ns; /* the next look */
};

static const char *const help_lines[] = {
	"1 .. 6, tab     stores, clients, pools, hot keys, latency, counters of the daemon",
	"< >             sort by the column to the left, to the right",
	"r               the other way round",
	"/               show only rows with a text (Enter: done, Esc: all rows again)",
	"up down         rows further up and down, also page up, page down, home, end",
	"space, p        stop, and go on",
	"+ -             look less often, more often",
	"h ?             this; any key: back",
	"q               the end",
	"",
	"Rates are of the time since the last look; a ratio is hits of reads, of the",
	"last second, ten and sixty, or ever.  Hot keys: their share of their store's",
	"hits in the last half minute or so, and by how much that may be off.",
	"Latencies are of the requests since the last look, each at most 12.5 % too",
	"high.  A wider terminal shows more columns.",
};

/* ------------------------------------------------------------ drawing */

/* A line, cut or filled up to the width. */
static void put(int y, attr_t attributes, const char *text)
{
	if (y < 0 || y >= LINES)
		return;
	(void)attrset((int)attributes);
	(void)mvaddnstr(y, 0, text, COLS);
	if (attributes & A_REVERSE)
		for (int x = (int)strlen(text); x < COLS; x++)
			(void)mvaddch(y, x, ' ');
	(void)attrset(A_NORMAL);
}

static attr_t bad(const struct screen *s)
{
	return A_BOLD | (s->colours ? COLOR_PAIR(PAIR_BAD) : 0);
}

static void draw_head(const struct screen *s)
{
	static const char *const names[] = {
		"1 stores", "2 clients", "3 pools", "4 hot keys", "5 latency", "6 daemon"};
	const struct top *t = s->top;
	char every[CLI_TEXT_BYTES], text[CLI_TEXT_BYTES * 2];
	int x = 0;

	put(0, A_BOLD, t->daemon);
	if (t->why[0])
		put(1, bad(s), t->why);
	else if (t->health[0])
		put(1, A_BOLD | (s->colours ? COLOR_PAIR(PAIR_ODD) : 0), t->health);
	else
		put(1, A_NORMAL, "healthy");
	put(2, A_NORMAL, t->sums);
	for (uint32_t i = 0; i < TOP_N_VIEWS; i++) {
		(void)attrset(i == s->view ? A_REVERSE | A_BOLD : A_NORMAL);
		(void)mvaddnstr(3, x, names[i], x < COLS ? COLS - x : 0);
		(void)attrset(A_NORMAL);
		x += (int)strlen(names[i]) + 1;
	}
	(void)snprintf(text, sizeof text, "%s%s", s->paused ? "paused" : "every ",
		s->paused ? "" : cli_time(t->interval_ns, every));
	if (x + (int)strlen(text) < COLS)
		(void)mvaddstr(3, COLS - (int)strlen(text), text);
}

/* The titles; that of the column that is sorted by stands out. */
static void draw_titles(const struct screen *s, uint32_t n, const uint32_t *width)
{
	const struct top_table *t = &s->top->table[s->view];
	uint32_t sort = s->order[s->view].sort;
	char line[TOP_LINE_BYTES];
	int x = 0;

	top_line_titles(t, n, width, line);
	put(HEAD_LINES - 1, A_REVERSE, line);
	for (uint32_t i = 0; i < sort && i < n; i++)
		x += (int)width[i] + 1;
	if (sort < n && HEAD_LINES <= LINES)
		(void)mvchgat(HEAD_LINES - 1, x, (int)width[sort], A_BOLD | A_UNDERLINE, 0, NULL);
}

static void draw_foot(const struct screen *s, uint32_t n_rows)
{
	const struct top_table *t = &s->top->table[s->view];
	const struct top_order *o = &s->order[s->view];
	const struct top_column *by = &t->column[o->sort];
	char line[TOP_LINE_BYTES];

	if (s->typing)
		(void)snprintf(line, sizeof line, "filter: %s_", o->filter);
	else if (*o->filter)
		(void)snprintf(line, sizeof line,
			"filter: %s (%u of %u rows; / another, Esc none)  h help  q quit",
			o->filter, n_rows, t->n_rows);
	else
		(void)snprintf(line, sizeof line,
			"q quit  h help  < > sort: %s, %s  r reverse  / filter  space %s",
			by->title, by->is_text == o->reverse ? "high first" : "low first",
			s->paused ? "go on" : "pause");
	put(LINES - 1, A_BOLD, line);
}

static void draw_table(struct screen *s)
{
	const struct top_table *t = &s->top->table[s->view];
	uint32_t width[TOP_COLUMNS_MAX], n_rows;
	uint32_t room = LINES > HEAD_LINES + 1 ? (uint32_t)LINES - HEAD_LINES - 1 : 0;
	char line[TOP_LINE_BYTES];
	_cleanup_free_ const struct top_row **rows = top_rows(t, &s->order[s->view], &n_rows);

	uint32_t n = top_widths(t, (uint32_t)COLS, width);
	draw_titles(s, n, width);
	if (s->scroll + room > n_rows)
		s->scroll = n_rows > room ? n_rows - room : 0;
	for (uint32_t i = 0; rows && i < room && s->scroll + i < n_rows; i++) {
		const struct top_row *r = rows[s->scroll + i];
		top_line_row(t, r, n, width, line);
		put(HEAD_LINES + (int)i, r->bad ? bad(s) : A_NORMAL, line);
	}
	if (n_rows == 0 && room)
		put(HEAD_LINES, A_NORMAL,
			t->n_rows ? "no row has the filter's text in it" : "there is nothing yet");
	draw_foot(s, n_rows);
}

static void draw(struct screen *s)
{
	(void)erase();
	draw_head(s);
	if (s->help)
		for (int i = 0; i < (int)(sizeof help_lines / sizeof *help_lines); i++)
			put(HEAD_LINES + i, A_NORMAL, help_lines[i]);
	else
		draw_table(s);
	(void)refresh();
}

/* ------------------------------------------------------------ keys */

static void type(struct screen *s, int key)
{
	char *filter = s->order[s->view].filter;
	size_t n = strlen(filter);

	if (key == '\n' || key == '\r' || key == KEY_ENTER || key == KEY_ESC)
		s->typing = false;
	if (key == KEY_ESC || key == 'U' - '@')
		filter[0] = 0;
	else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && n)
		filter[n - 1] = 0;
	else if (key >= ' ' && key <= '~' && n + 1 < sizeof s->order->filter) {
		filter[n] = (char)key;
		filter[n + 1] = 0;
	}
	s->scroll = 0;
}

static void show_view(struct screen *s, uint32_t view)
{
	s->view = view % TOP_N_VIEWS;
	s->scroll = 0;
}

static void sort_by(struct screen *s, uint32_t step)
{
	struct top_order *o = &s->order[s->view];
	uint32_t width[TOP_COLUMNS_MAX],
		n = top_widths(&s->top->table[s->view], (uint32_t)COLS, width);

	o->sort = (o->sort < n ? o->sort + n + step : 0) % n; /* of those that are shown */
	o->reverse = false;
}

static void look_more_often(struct screen *s, bool more)
{
	static const uint64_t steps_ms[] = {100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000};
	enum { N = sizeof steps_ms / sizeof *steps_ms };
	uint64_t ms = s->top->interval_ns / 1000000, next = ms;

	for (int i = 0; i < N; i++) {
		if (!more && steps_ms[i] > ms) {
			next = steps_ms[i];
			break;
		}
		if (more && steps_ms[i] < ms)
			next = steps_ms[i];
	}
	s->top->interval_ns = next * 1000000;
	s->next_ns = 0;
}

static void scroll_by(struct screen *s, int key)
{
	uint32_t page = LINES > HEAD_LINES + 2 ? (uint32_t)LINES - HEAD_LINES - 2 : 1;
	uint32_t by = key == KEY_UP || key == KEY_DOWN ? 1 : page;

	if (key == KEY_UP || key == KEY_PPAGE)
		s->scroll -= by < s->scroll ? by : s->scroll;
	else if (key == KEY_DOWN || key == KEY_NPAGE)
		s->scroll += by;
	else
		s->scroll = key == KEY_HOME ? 0 : s->top->table[s->view].n_rows;
}

static void obey(struct screen *s, int key)
{
	struct top_order *o = &s->order[s->view];

	if (key == KEY_RESIZE)
		return;
	if (s->typing) {
		type(s, key);
		return;
	}
	if (s->help) {
		s->help = false;
		s->end = key == 'q';
		return;
	}
	if (key >= '1' && key < '1' + TOP_N_VIEWS)
		show_view(s, (uint32_t)(key - '1'));
	else if (key == '\t' || key == KEY_RIGHT)
		show_view(s, s->view + 1);
	else if (key == KEY_BTAB || key == KEY_LEFT)
		show_view(s, s->view + TOP_N_VIEWS - 1);
	else if (key == '<' || key == ',')
		sort_by(s, (uint32_t)-1);
	else if (key == '>' || key == '.')
		sort_by(s, 1);
	else if (key == 'r')
		o->reverse = !o->reverse;
	else if (key == '/')
		s->typing = true;
	else if (key == KEY_ESC)
		o->filter[0] = 0;
	else if (key == ' ' || key == 'p')
		s->paused = !s->paused;
	else if (key == '+' || key == '-')
		look_more_often(s, key == '-');
	else if (key == 'h' || key == '?')
		s->help = true;
	else if (key == 'q')
		s->end = true;
	else
		scroll_by(s, key);
}

/* ------------------------------------------------------------ the worker */

/* Waits for keys and signals until the next look is due. */
static void events(struct screen *s, int signals)
{
	uint64_t now_ns = sup_host_mono_ns();
	uint64_t left_ms = s->next_ns > now_ns ? (s->next_ns - now_ns) / 1000000 + 1 : 0;
	struct pollfd p[2] = {{STDIN_FILENO, POLLIN, 0}, {signals, POLLIN, 0}};

	int n = poll(p, 2, s->paused ? -1 : (int)left_ms); /* EINTR: another size */
	if (n > 0 && (p[1].revents || p[0].revents & (POLLHUP | POLLERR | POLLNVAL)))
		s->end = true;
	for (int key = getch(); key != ERR && !s->end; key = getch())
		obey(s, key);
}

static void colours_begin(struct screen *s)
{
	const char *none = getenv("NO_COLOR");

	if ((none && *none) || !has_colors())
		return;
	s->colours = start_color() == OK && use_default_colors() == OK &&
	             init_pair(PAIR_BAD, COLOR_RED, -1) == OK &&
	             init_pair(PAIR_ODD, COLOR_YELLOW, -1) == OK;
}

static int work(struct top *t, int signals)
{
	struct screen s = {.top = t};

	for (int i = 0; i < TOP_N_VIEWS; i++)
		s.order[i].sort = t->table[i].sort;
	(void)setlocale(LC_CTYPE, "");
	SCREEN *term = newterm(NULL, stdout, stdin);
	if (!term)
		return EXIT_NO_SCREEN;
	colours_begin(&s);
	(void)cbreak();
	(void)noecho();
	(void)curs_set(0);
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)set_escdelay(25);
	while (!s.end) {
		uint64_t now_ns = sup_host_mono_ns();
		if (!s.paused && now_ns >= s.next_ns) {
			(void)top_look(t);
			s.next_ns = now_ns + t->interval_ns;
		}
		draw(&s);
		events(&s, signals);
	}
	(void)endwin();
	delscreen(term);
	return CLI_DONE;
}

/* ------------------------------------------------------------ who waits for it */

/* What puts the terminal right, whatever the worker has done to it. */
struct terminal {
	struct termios modes;
	char text[256];
};

static bool terminal_look(struct terminal *t)
{
	int error;

	if (setupterm(NULL, STDOUT_FILENO, &error) != OK || !cursor_address ||
		tcgetattr(STDIN_FILENO, &t->modes) != 0)
		return false;
	(void)snprintf(t->text, sizeof t->text, "%s%s%s%s",
		exit_attribute_mode ? exit_attribute_mode : "", exit_ca_mode ? exit_ca_mode : "",
		cursor_normal ? cursor_normal : "", keypad_local ? keypad_local : "");
	return true;
}

static void terminal_restore(const struct terminal *t)
{
	(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &t->modes);
	if (write(STDOUT_FILENO, t->text, strlen(t->text)) < 0)
		return; /* it is gone */
}

/* Hands on what would end this process, until the worker has ended.  Its status.  When the worker stops (^Z), having
 * given the terminal back, so does this process: then a shell draws its prompt on the right screen. */
static int worker_wait(pid_t worker, const sigset_t *signals)
{
	siginfo_t info;
	int status;

	for (;;) {
		pid_t changed = waitpid(worker, &status, WNOHANG | WUNTRACED);
		if (changed == worker && !WIFSTOPPED(status))
			return status;
		if (changed == worker) {
			(void)raise(SIGSTOP);
			(void)kill(worker, SIGCONT);
		}
		int sig = sigwaitinfo(signals, &info);
		if (sig == SIGTSTP && info.si_code == SI_USER) /* the terminal's goes to both */
			(void)kill(worker, SIGTSTP);
		else if (sig > 0 && sig != SIGCHLD && sig != SIGTSTP)
			(void)kill(worker, SIGTERM);
	}
}

int top_screen(struct top *t)
{
	struct cli quick = *t->c;
	struct terminal terminal;
	sigset_t signals, mine, all, was;

	if (!terminal_look(&terminal)) {
		fputs("hypercache: this terminal cannot be drawn on (TERM): plain text\n", stderr);
		return -1;
	}
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGHUP);
	(void)sigaddset(&signals, SIGQUIT);
	(void)sigemptyset(&mine);
	(void)sigaddset(&mine, SIGCHLD);
	(void)sigaddset(&mine, SIGTSTP);
	(void)sigorset(&all, &signals, &mine);
	(void)sigprocmask(SIG_BLOCK, &all, &was);
	quick.timeout_ms = quick.timeout_ms < LOOK_MS ? quick.timeout_ms : LOOK_MS;
	pid_t parent = getpid(), worker = fork();
	if (worker == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		/* When this process is killed, a shell takes the terminal; then it is restored nevertheless. */
		(void)signal(SIGTTOU, SIG_IGN);
		(void)sigprocmask(SIG_UNBLOCK, &mine, NULL);
		t->c = &quick;
		_exit(getppid() == parent ? work(t, signalfd(-1, &signals, SFD_CLOEXEC))
					  : CLI_FAILED);
	}
	int status = worker > 0 ? worker_wait(worker, &all) : -1;
	(void)sigprocmask(SIG_SETMASK, &was, NULL);
	if (worker < 0)
		return cli_fail(t->c, CLI_FAILED, "no process for it: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_SCREEN)
		return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == CLI_DONE)
		return CLI_DONE;
	if (!MUTANT(828)) /* 828: it is left as it was drawn on */
		terminal_restore(&terminal);
	if (WIFEXITED(status))
		return cli_fail(t->c, CLI_FAILED, "the part that draws ended with status %d",
			WEXITSTATUS(status));
	return cli_fail(t->c, CLI_FAILED, "the part that draws died of signal %d (%s)",
		WTERMSIG(status), strsignal(WTERMSIG(status)));
}

#else
int top_screen(struct top *t)
{
	(void)t;
	fputs("hypercache: built without ncurses (-Dtop): plain text\n", stderr);
	return -1;
}
#endif
