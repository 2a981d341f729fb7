// For dl_iterate_phdr(3).
#define _GNU_SOURCE
#include "CLinux.h"

#include <link.h>

// SwiftPM compiles a C target only if it has a source file; the layouts relied on are asserted here.
_Static_assert(sizeof(struct epoll_event) == 12 || sizeof(struct epoll_event) == 16,
               "epoll_event is packed on x86-64 and naturally aligned elsewhere");

static int give_back(struct dl_phdr_info *object, size_t size, void *context) {
    (void)size;
    (void)context;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int index = 0; index < object->dlpi_phnum; index++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[index];
        // What may be written holds what the file does not: relocated addresses, for one.
        if (part->p_type != PT_LOAD || part->p_flags & PF_W) continue;
        uintptr_t start = (object->dlpi_addr + part->p_vaddr) & -page;
        uintptr_t end = (object->dlpi_addr + part->p_vaddr + part->p_memsz) & -page;
        // A refusal leaves everything as it was.
        (void)madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

void clx_give_back_code(void) { dl_iterate_phdr(give_back, NULL); }
