/* Logs the file operations of a process, and makes them fail: LD_PRELOAD=disk.so.
 *
 * DISK_ROOT     watched directory
 * DISK_LOG      file to which each completed change in that directory is appended
 * DISK_CONTROL  two shared ints: the number of changes until one fails (0: none), and the errno
 *               (0 writes half of the data, then fails with ENOSPC)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 65536
static unsigned char watched[FILES];
static char root[PATH_MAX];
static size_t root_length;
static int log_file = -1;
static volatile int *control;

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("DISK_ROOT"), *path = getenv("DISK_LOG");
    if (!folder || !path) return;
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    log_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int file = syscall(SYS_openat, AT_FDCWD, getenv("DISK_CONTROL"), O_RDWR | O_CLOEXEC);
    void *shared = mmap(0, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    control = shared == MAP_FAILED ? 0 : shared;
    syscall(SYS_close, file);
}

static int is_below_root(const char *path)
{
    return root_length && !strncmp(path, root, root_length)
        && (path[root_length] == '/' || !path[root_length]);
}

static int is_watched(int file) { return file >= 0 && file < FILES && watched[file]; }

/* One record: a line of JSON without the data, then the data. */
static void append_record(const char *line, const void *data, size_t size)
{
    struct iovec parts[2] = {{(void *)line, strlen(line)}, {(void *)data, size}};
    syscall(SYS_writev, log_file, parts, 2);
}

/* Count a change. Return -1 if it must fail. */
static int must_fail(int *half)
{
    *half = 0;
    if (!control || control[0] <= 0) return 0;
    if (__sync_sub_and_fetch(&control[0], 1) > 0) return 0;
    *half = !control[1];
    errno = control[1] ? control[1] : ENOSPC;
    return -1;
}

static uint64_t inode_of(int file)
{
    struct stat status;
    return fstat(file, &status) ? 0 : status.st_ino;
}

static uint64_t inode_at(const char *path)
{
    struct stat status;
    return lstat(path, &status) ? 0 : status.st_ino;
}

static int opened(const char *path, int flags, mode_t mode)
{
    char line[PATH_MAX + 99];
    int half, fresh = 0;
    if (!is_below_root(path)) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (flags & (O_CREAT | O_TRUNC)) {
        fresh = (flags & O_CREAT) && !inode_at(path);
        if ((fresh || (flags & O_TRUNC)) && must_fail(&half)) return -1;
    }
    int file = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (file < 0 || file >= FILES) return file;
    watched[file] = 1;
    if (fresh || (flags & O_TRUNC)) {
        snprintf(line, sizeof line, "{\"op\": \"%s\", \"path\": \"%s\", \"ino\": %lu}\n",
                 fresh ? "create" : "empty", path, inode_of(file));
        append_record(line, "", 0);
    }
    return file;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        return opened(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) \
    { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (path[0] == '/') return opened(path, flags, mode); \
        return syscall(SYS_openat, folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int file)
{
    if (is_watched(file)) watched[file] = 0;
    return syscall(SYS_close, file);
}

static ssize_t written(int file, const void *data, size_t size, off_t at, int here)
{
    char line[200];
    int half;
    struct stat status;
    if (is_watched(file)) {
        if (must_fail(&half)) {
            if (!half || size < 2) return -1;
            size /= 2;
        }
        if (here) {
            int flags = fcntl(file, F_GETFL);
            at = flags & O_APPEND ? (fstat(file, &status), status.st_size) : lseek(file, 0, SEEK_CUR);
        }
    }
    ssize_t done = here ? syscall(SYS_write, file, data, size)
                        : syscall(SYS_pwrite64, file, data, size, at);
    if (done > 0 && is_watched(file)) {
        snprintf(line, sizeof line, "{\"op\": \"write\", \"ino\": %lu, \"at\": %ld, \"size\": %zd}\n",
                 inode_of(file), (long)at, done);
        append_record(line, data, done);
    }
    return done;
}

ssize_t write(int file, const void *data, size_t size) { return written(file, data, size, 0, 1); }
ssize_t pwrite(int file, const void *data, size_t size, off_t at) { return written(file, data, size, at, 0); }
ssize_t pwrite64(int file, const void *data, size_t size, off_t at) { return written(file, data, size, at, 0); }

static int changed(int file, const char *op, long call, long argument)
{
    char line[200];
    int half;
    if (is_watched(file) && must_fail(&half)) return -1;
    int result = syscall(call, file, argument);
    if (!result && is_watched(file)) {
        snprintf(line, sizeof line, "{\"op\": \"%s\", \"ino\": %lu, \"length\": %ld}\n", op,
                 inode_of(file), argument);
        append_record(line, "", 0);
    }
    return result;
}

int fsync(int file) { return changed(file, "sync", SYS_fsync, 0); }
int fdatasync(int file) { return changed(file, "sync", SYS_fdatasync, 0); }
int ftruncate(int file, off_t length) { return changed(file, "cut", SYS_ftruncate, length); }
int ftruncate64(int file, off_t length) { return changed(file, "cut", SYS_ftruncate, length); }

int rename(const char *from, const char *to)
{
    char line[2 * PATH_MAX + 99];
    int half;
    if (is_below_root(to) && must_fail(&half)) return -1;
    int result = syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    if (!result && is_below_root(to)) {
        snprintf(line, sizeof line, "{\"op\": \"rename\", \"path\": \"%s\", \"to\": \"%s\"}\n", from, to);
        append_record(line, "", 0);
    }
    return result;
}

int unlink(const char *path)
{
    char line[PATH_MAX + 99];
    int half;
    if (is_below_root(path) && inode_at(path) && must_fail(&half)) return -1;
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!result && is_below_root(path)) {
        snprintf(line, sizeof line, "{\"op\": \"unlink\", \"path\": \"%s\"}\n", path);
        append_record(line, "", 0);
    }
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    char line[PATH_MAX + 99];
    int half;
    if (is_below_root(path) && !inode_at(path) && must_fail(&half)) return -1;
    int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (!result && is_below_root(path)) {
        snprintf(line, sizeof line, "{\"op\": \"mkdir\", \"path\": \"%s\", \"ino\": %lu}\n", path,
                 inode_at(path));
        append_record(line, "", 0);
    }
    return result;
}
