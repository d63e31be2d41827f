/* SPDX-License-Identifier: MIT */
/* The program and its modules, as the dynamic loader lists them. */

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/macro.h"
#include "process/module.h"

struct search {
    uintptr_t address;
    struct mp_build_id *id;
};

static bool covers(const struct dl_phdr_info *module, uintptr_t address)
{
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &module->dlpi_phdr[i];

        if (p->p_type == PT_LOAD && address - (module->dlpi_addr + p->p_vaddr) < p->p_memsz)
            return true;
    }
    return false;
}

/* Notes: a header, the name, the description, each padded to 4 bytes. */
static bool take_build_id(const char *notes, size_t size, struct mp_build_id *id)
{
    while (size >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *n = (const ElfW(Nhdr) *)(const void *)notes;
        size_t name = MP_ALIGN_UP((size_t)n->n_namesz, 4);
        size_t text = MP_ALIGN_UP((size_t)n->n_descsz, 4);
        const char *at = notes + sizeof *n;

        if (sizeof *n + name + text > size)
            return false;
        if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == sizeof "GNU" &&
            memcmp(at, "GNU", sizeof "GNU") == 0) {
            id->size = mp_min((uint32_t)n->n_descsz, (uint32_t)MP_BUILD_ID_MAX);
            memcpy(id->bytes, at + name, id->size);
            return true;
        }
        notes += sizeof *n + name + text;
        size -= sizeof *n + name + text;
    }
    return false;
}

static int look_at(struct dl_phdr_info *module, size_t size, void *user)
{
    struct search *s = user;

    (void)size;
    if (!covers(module, s->address))
        return 0;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &module->dlpi_phdr[i];

        if (p->p_type == PT_NOTE &&
            take_build_id((const char *)(module->dlpi_addr + p->p_vaddr), p->p_memsz, s->id))
            break;
    }
    return 1;
}

void mp_module_build_id(void (*fn)(void), struct mp_build_id *ret_id)
{
    struct search s = {.address = (uintptr_t)fn, .id = ret_id};

    memset(ret_id, 0, sizeof *ret_id);
    dl_iterate_phdr(look_at, &s);
}

static int is_first_executed(struct dl_phdr_info *module, size_t size, void *user)
{
    (void)size;
    (void)user;
    /* The first one listed is the program; the kernel tells where the headers lie of the file that
     * it executed. 1 and -1 both end the walk. */
    return (uintptr_t)module->dlpi_phdr == getauxval(AT_PHDR) ? 1 : -1;
}

bool mp_module_can_reexec(void)
{
    return dl_iterate_phdr(is_first_executed, NULL) == 1;
}
