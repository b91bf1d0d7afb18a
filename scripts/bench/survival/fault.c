/* Stands between the writer and the system, in the writer's process alone (LD_PRELOAD).
 *
 * FAULT_MATCH   only files whose path contains this
 * FAULT_LOG     append every change of such a file, and every answer on a pipe, to this file
 * FAULT_AT      the number of the change, from 1, at which and from which on to fail ...
 * FAULT_ERRNO   ... with this errno
 *
 * A record of the log: one letter (w write, t truncate, r rename, u unlink, a answer, s a sync
 * begins, S it has ended), three 64-bit numbers (offset or length, bytes of the name, bytes of the
 * data), the name, the data.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -2;
static long changes = 0, fail_at = 0;
static int fail_errno = 0;
static const char *match = NULL;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_truncate)(int, off64_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_fsync)(int);
static int (*real_ioctl)(int, unsigned long, ...);

static void start(void) {
    if (log_fd != -2) return;
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_truncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_ioctl = dlsym(RTLD_NEXT, "ioctl");
    match = getenv("FAULT_MATCH");
    const char *at = getenv("FAULT_AT"), *number = getenv("FAULT_ERRNO"), *path = getenv("FAULT_LOG");
    fail_at = at ? atol(at) : 0;
    fail_errno = number ? atoi(number) : 0;
    log_fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
}

static int name_of(int fd, char *name, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, size - 1);
    name[length > 0 ? length : 0] = 0;
    return length > 0;
}

static void note(char kind, uint64_t at, const char *name, const void *data, uint64_t size) {
    if (log_fd < 0) return;
    uint64_t head[3] = {at, strlen(name), size};
    struct iovec parts[] = {{&kind, 1}, {head, sizeof head}, {(void *)name, head[1]}, {(void *)data, size}};
    writev(log_fd, parts, 4); /* at once: several processes may write one log */
}

/* Counts a change; nonzero where it is to fail. */
static int failing(const char *name) {
    if (!match || !strstr(name, match) || strstr(name, ".lock")) return 0;
    changes++;
    if (fail_at && changes >= fail_at) {
        errno = fail_errno;
        return 1;
    }
    return 0;
}

static int ours(const char *name) { return match && strstr(name, match) && !strstr(name, ".lock"); }

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    char name[4096];
    pthread_mutex_lock(&lock);
    start();
    ssize_t done = -1;
    if (!name_of(fd, name, sizeof name) || !failing(name)) {
        done = real_pwrite(fd, data, size, at);
        if (done > 0 && ours(name)) note('w', at, name, data, done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size) {
    char name[4096];
    pthread_mutex_lock(&lock);
    start();
    ssize_t done = -1;
    int known = name_of(fd, name, sizeof name);
    off64_t at = known && ours(name) ? lseek64(fd, 0, SEEK_CUR) : 0;
    if (!known || !failing(name)) {
        if (known && !strncmp(name, "pipe:", 5) && size && *(const char *)data == '{')
            note('a', 0, name, data, size);
        done = real_write(fd, data, size);
        if (done > 0 && known && ours(name)) note('w', at, name, data, done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate64(int fd, off64_t length) {
    char name[4096];
    pthread_mutex_lock(&lock);
    start();
    int done = -1;
    if (!name_of(fd, name, sizeof name) || !failing(name)) {
        done = real_truncate(fd, length);
        if (!done && ours(name)) note('t', length, name, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    start();
    int done = -1;
    if (!failing(to)) {
        done = real_rename(from, to);
        if (!done && ours(to)) note('r', 0, from, to, strlen(to));
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    start();
    int done = real_unlink(path);
    if (!done && ours(path)) note('u', 0, path, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

/* What is on the disk when it has ended is what was written before it began. */
int fsync(int fd) {
    char name[4096];
    pthread_mutex_lock(&lock);
    start();
    int known = name_of(fd, name, sizeof name) && ours(name);
    if (known && failing(name)) {
        pthread_mutex_unlock(&lock);
        return -1;
    }
    if (known) note('s', fd, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    int done = real_fsync(fd);
    pthread_mutex_lock(&lock);
    if (known && !done) note('S', fd, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int fdatasync(int fd) { return fsync(fd); }

/* Blocks that are shared with another file are written nowhere. */
int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    pthread_mutex_lock(&lock);
    start();
    pthread_mutex_unlock(&lock);
    if (request == 0x40049409) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return real_ioctl(fd, request, argument);
}

/* Python then copies a file by reading and writing, which is seen above. */
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) { errno = EINVAL; return -1; }
ssize_t sendfile(int out, int in, off_t *at, size_t size) { errno = EINVAL; return -1; }
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t size, unsigned flags) {
    errno = EINVAL;
    return -1;
}
