/* hct_symbol.c - what stands at an address of a process: its file, and the function if the file names it. */
#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "hct.h"

enum { PATH_BYTES = 4200, SECTIONS_MAX = 256, SYMBOLS_MAX = 1 << 20 };

/* The mapping of a file that the address is in.  False: none. */
static bool mapping_of(int pid, uint64_t address, uint64_t *ret_off, char path[PATH_BYTES])
{
	char name[64], line[PATH_BYTES];
	bool found = false;

	(void)snprintf(name, sizeof name, "/proc/%d/maps", pid);
	FILE *f = fopen(name, "re");
	while (f && !found && fgets(line, sizeof line, f)) {
		unsigned long begin, end, off;
		const char *file = strchr(line, '/');
		if (!file || sscanf(line, "%lx-%lx %*s %lx", &begin, &end, &off) != 3 ||
			address < begin || address >= end)
			continue;
		*ret_off = address - begin + off;
		(void)snprintf(
			path, PATH_BYTES, "/proc/%d/root%.*s", pid, (int)strcspn(file, "\n"), file);
		found = true;
	}
	if (f)
		(void)fclose(f);
	return found;
}

/* The address in the file's own numbers of what stands at an offset of the file. */
static uint64_t address_of(Elf *elf, uint64_t off)
{
	size_t n = 0;

	(void)elf_getphdrnum(elf, &n);
	for (size_t i = 0; i < n; i++) {
		GElf_Phdr ph;
		if (gelf_getphdr(elf, (int)i, &ph) && ph.p_type == PT_LOAD && off >= ph.p_offset &&
			off - ph.p_offset < ph.p_filesz)
			return ph.p_vaddr + off - ph.p_offset;
	}
	return off;
}

/* The function around an address, in one table.  False: none. */
static bool function_in(Elf *elf, Elf_Scn *section, uint64_t address, char *to, size_t to_bytes)
{
	Elf_Data *data = elf_getdata(section, NULL);
	GElf_Shdr sh;

	if (!data || !gelf_getshdr(section, &sh) || sh.sh_entsize == 0)
		return false;
	for (uint64_t i = 0; i < sh.sh_size / sh.sh_entsize && i < SYMBOLS_MAX; i++) {
		GElf_Sym s;
		if (!gelf_getsym(data, (int)i, &s) || GELF_ST_TYPE(s.st_info) != STT_FUNC ||
			address < s.st_value || address - s.st_value >= s.st_size)
			continue;
		const char *name = elf_strptr(elf, sh.sh_link, s.st_name);
		(void)snprintf(to, to_bytes, "%s+0x%llx", name ? name : "?",
			(unsigned long long)(address - s.st_value));
		return true;
	}
	return false;
}

static bool function_of(const char *path, uint64_t off, char *to, size_t to_bytes)
{
	bool found = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	(void)elf_version(EV_CURRENT);
	Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
	uint64_t address = elf ? address_of(elf, off) : 0;
	Elf_Scn *section = NULL;
	for (int i = 0; elf && !found && i < SECTIONS_MAX; i++) {
		GElf_Shdr sh;
		section = elf_nextscn(elf, section);
		if (!section)
			break;
		if (gelf_getshdr(section, &sh) &&
			(sh.sh_type == SHT_SYMTAB || sh.sh_type == SHT_DYNSYM))
			found = function_in(elf, section, address, to, to_bytes);
	}
	if (elf)
		(void)elf_end(elf);
	(void)close(fd);
	return found;
}

void hct_symbol(int pid, uint64_t address, char *to, size_t to_bytes)
{
	char path[PATH_BYTES];
	uint64_t off;

	if (!mapping_of(pid, address, &off, path)) {
		(void)snprintf(to, to_bytes, "0x%llx", (unsigned long long)address);
		return;
	}
	/* A call's last byte: what follows a call that ends a function is another one. */
	if (function_of(path, off ? off - 1 : off, to, to_bytes))
		return;
	const char *last = strrchr(path, '/');
	(void)snprintf(to, to_bytes, "%s+0x%llx", last ? last + 1 : path, (unsigned long long)off);
}
