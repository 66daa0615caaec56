/* probes_man.c - prints hypercache-probes(7) from the list of probes: run when it is built. */
#include <stdio.h>
#include <string.h>
#include "probe_list.h"

static const char head[] =
	".Dd November 21, 2026\n"
	".Dt HYPERCACHE-PROBES 7\n"
	".Os\n"
	".Sh NAME\n"
	".Nm hypercache-probes\n"
	".Nd what a tracer can hear of a shared cache\n"
	".Sh DESCRIPTION\n"
	"The client library and the engine of\n"
	".Xr hypercached 8\n"
	"have probes: static tracepoints of user space (USDT) of the provider\n"
	".Ql hypercache ,\n"
	"with semaphores, so that one to which nothing is attached costs a comparison at most, and "
	"in\n"
	".Xr hc_get 3\n"
	"nothing at all.\n"
	"Programs that are linked with the static library have the client's probes in themselves.\n"
	".Ql readelf -n FILE\n"
	"lists what a file has.\n"
	".Pp\n"
	"Any tracer of USDT probes can attach to them, as\n"
	".Xr bpftrace 8 .\n"
	".Ss One read of N\n"
	"A read takes tens of nanoseconds, and a probe with a tracer behind it about a "
	"microsecond.\n"
	"So reads are chosen before they reach their probes: one of N, evenly by chance, and the "
	"others run as ever.\n"
	"Each event says which N held for it, as\n"
	".Va every :\n"
	"counts are to be multiplied by it.\n"
	"N is 1000 unless a tool wants another one; it then holds as long as the tool runs, and "
	"the smallest of all wins.\n"
	"A thread notices a tracer, or another N, with its next miss, or after 16 hits.\n"
	"Writes and what the engine does are told of without exception.\n"
	".Ss Arguments\n"
	"A key is an address and a length: it may hold any bytes, and no zero ends it.\n"
	"A store is an index of the directory in the control segment, see\n"
	".Xr hypercache-layout 7 ;\n"
	".Ql hypercache stat\n"
	"shows the stores in that order.\n"
	"Addresses are of the process that fires.\n"
	".Pp\n"
	"Probes that are\n"
	".Em stable\n"
	"stay as they are, but for more arguments behind the last, until the layout's major "
	"version changes;\n"
	"those that are\n"
	".Em evolving\n"
	"may go with any version.\n";

static const char tail[] = ".Sh SEE ALSO\n"
			   ".Xr hypercache 1 ,\n"
			   ".Xr hc_get 3 ,\n"
			   ".Xr hypercache-layout 7 ,\n"
			   ".Xr bpftrace 8\n";

static void argument(const char *type, const char *name, const char *unit, const char *meaning)
{
	static const char *const types[][2] = {{"u32", "unsigned 32 bits"},
		{"i32", "signed 32 bits"}, {"u64", "64 bits"}, {"ptr", "address"}};

	for (int i = 0; i < 4; i++)
		if (strcmp(type, types[i][0]) == 0)
			type = types[i][1];
	printf(".It Va %s\n%s", name, meaning);
	if (strcmp(unit, type) == 0 || strcmp(unit, "address") == 0)
		printf(" (%s)\n", type);
	else
		printf(" (%s, %s)\n", unit, type);
}

static void begin(const char *name, const char *stability, const char *meaning)
{
	printf(".It Ic %s\n%s: %s.\n.Bl -tag -width value_bytes -compact\n", name, stability,
		meaning);
}

#define ARGUMENT_(type, name, unit, meaning) argument(#type, #name, unit, meaning)
#define SEMICOLON_() ;
#define PRINT_(name, stability, meaning) \
	begin(#name, #stability, meaning); \
	PROBE_##name(ARGUMENT_, SEMICOLON_); \
	puts(".El");

int main(void)
{
	fputs(head, stdout);
	puts(".Ss In clients\n.Bl -tag -width Ds");
	PROBES_CLIENT(PRINT_)
	puts(".El\n.Ss In the engine\n.Bl -tag -width Ds");
	PROBES_ENGINE(PRINT_)
	puts(".El");
	fputs(tail, stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
