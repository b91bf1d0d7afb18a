/* Lets allocations fail, in a process that is started with it (LD_PRELOAD) and in its children.
 *
 * STARVE names a file of five 64-bit numbers, which all processes share:
 *   0  allocations so far, counted here
 *   1  the number of the allocation, from 1, that fails; 0 for none
 *   2  bytes from which on all behind it fail too; 0 for none: what is small is often still there
 *   3  allocations that have failed, counted here
 *   4  1 once it is to be counted; set from outside, or by `starve_begin`
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static _Atomic int64_t *shared = NULL;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("STARVE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, 5 * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) shared = at;
}

void starve_begin(void) {
    if (shared) shared[4] = 1;
}

static int failing(size_t size) {
    if (!shared || !shared[4]) return 0;
    int64_t number = ++shared[0], at = shared[1];
    if (!at || number < at || (number > at && (!shared[2] || size < (size_t)shared[2]))) return 0;
    shared[3]++;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return failing(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return failing(count * size) ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return failing(size) ? NULL : __libc_realloc(old, size); }
void *memalign(size_t to, size_t size) { return failing(size) ? NULL : __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { return memalign(to, size); }
int posix_memalign(void **at, size_t to, size_t size) {
    void *found = memalign(to, size);
    if (found) *at = found;
    return found ? 0 : ENOMEM;
}
