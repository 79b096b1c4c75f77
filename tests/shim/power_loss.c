/* A disk that forgets what was not synced, and fails when told to: preloaded into the gateway by the crash tests.
 *
 * Killing a process leaves what it wrote in the page cache, so a missing sync goes unnoticed. This library keeps beside
 * the directory SHIM_ROOT, in SHIM_SHADOW, what a disk would still have after the power went:
 *
 *   SHADOW/files/INODE-BIRTH   a file's bytes as of its last fsync or fdatasync
 *   SHADOW/dirs/INODE-BIRTH    a directory's entries as of its last fsync: "kind INODE-BIRTH name", one a line
 *
 * Writes are noted, and copied into the shadow by the sync that makes them durable. The real sync is left out. What is
 * there when the process starts counts as durable. Names made by other means than libc are seen, because a directory is
 * listed when it is synced; writes by other means than write, writev, pwrite and ftruncate would be
 * missed. What is set aside for a file (fallocate) reads as zeros and counts as its length when the file is synced.
 *
 *   SHIM_FORGET=PART           syncs of files whose path has PART do nothing: what a removed sync would be; with a "$"
 *                              behind PART, the path must end with it
 *   SHIM_STRICT=1              syncing a new file does not make its name durable (it does on ext4, XFS and btrfs)
 *   SHIM_FAIL=CALL,ERRNO,N,PART  from the Nth on, calls (write or sync) on files whose path has PART fail with ERRNO
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define KEY 64

struct range {
    off_t start, end;
};

/* A file with writes that are not durable. */
struct dirty {
    char key[KEY];
    struct range *ranges;
    size_t count, room;
    struct dirty *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[4096], shadow[4096];
static const char *forget, *fail_part;
static char fail_call[16];
static int fail_errno, strict;
static long fail_after;
static struct dirty *all;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);

static void die(const char *what) {
    dprintf(2, "power_loss: %s: %s\n", what, strerror(errno));
    _exit(99);
}

static int key_of(int fd, char *key) {
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st)) return -1;
    snprintf(key, KEY, "%llu-%lld.%u", (unsigned long long)st.stx_ino, (long long)st.stx_btime.tv_sec,
             st.stx_btime.tv_nsec);
    return 0;
}

/* The path behind fd if it lies in the directory that is watched. */
static int watched(int fd, char *path) {
    char link[64];
    if (!root[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, 4095);
    if (len <= 0) return 0;
    path[len] = 0;
    size_t prefix = strlen(root);
    return !strncmp(path, root, prefix) && (path[prefix] == '/' || !path[prefix]);
}

static int shadow_file(const char *kind, const char *key, int flags) {
    char path[8300];
    snprintf(path, sizeof path, "%s/%s/%s", shadow, kind, key);
    return open(path, flags | O_CLOEXEC, 0644);
}

static void copy(int from, int to, off_t start, off_t end) {
    static char buffer[1 << 16], zeros[4096];
    for (off_t at = start; at < end;) {
        size_t want = end - at < (off_t)sizeof buffer ? (size_t)(end - at) : sizeof buffer;
        ssize_t got = pread(from, buffer, want, at);
        if (got <= 0) return;
        /* Holes stay holes where nothing is overwritten. */
        if (got != 4096 || memcmp(buffer, zeros, 4096))
            for (ssize_t done = 0; done < got;) {
                ssize_t n = real_pwrite(to, buffer + done, got - done, at + done);
                if (n <= 0) die("shadow");
                done += n;
            }
        at += got;
    }
}

static struct dirty *dirty_of(const char *key) {
    for (struct dirty *found = all; found; found = found->next)
        if (!strcmp(found->key, key)) return found;
    struct dirty *made = calloc(1, sizeof *made);
    strcpy(made->key, key);
    made->next = all;
    return all = made;
}

static void note(int fd, off_t start, off_t end) {
    char key[KEY];
    if (key_of(fd, key)) return;
    struct dirty *file = dirty_of(key);
    if (file->count && file->ranges[file->count - 1].end == start) {
        file->ranges[file->count - 1].end = end;
        return;
    }
    if (file->count == file->room) {
        file->room = file->room ? 2 * file->room : 8;
        file->ranges = realloc(file->ranges, file->room * sizeof *file->ranges);
    }
    file->ranges[file->count++] = (struct range){start, end};
}

static void list_directory(int fd, const char *key) {
    char path[8300], temporary[8400];
    snprintf(path, sizeof path, "%s/dirs/%s", shadow, key);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    FILE *out = fopen(temporary, "we");
    if (!out) die(temporary);
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char child[KEY];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        int file = openat(fd, entry->d_name, O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        struct stat st;
        if (!fstat(file, &st) && !key_of(file, child))
            fprintf(out, "%c %s %s\n", S_ISDIR(st.st_mode) ? 'd' : 'f', child, entry->d_name);
        close(file);
    }
    if (dir) closedir(dir);
    fclose(out);
    if (rename(temporary, path)) die(path);
}

/* Copies what was written since the last sync. */
static void sync_file(int fd, const char *key) {
    struct dirty *file = dirty_of(key);
    struct stat st;
    int to = shadow_file("files", key, O_RDWR | O_CREAT);
    if (to < 0 || fstat(fd, &st)) die("shadow");
    if (real_ftruncate(to, st.st_size)) die("shadow");
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = open(self, O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < file->count; i++) copy(from, to, file->ranges[i].start, file->ranges[i].end);
    close(from);
    close(to);
    file->count = 0;
}

/* On most file systems a new file's name is durable with the file. */
static void sync_name(const char *path) {
    char parent[4096], key[KEY];
    strcpy(parent, path);
    char *slash = strrchr(parent, '/');
    if (!slash) return;
    *slash = 0;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    if (!key_of(fd, key)) list_directory(fd, key);
    close(fd);
}

static int has(const char *path, const char *part) {
    size_t len = strlen(part), path_len = strlen(path);
    if (!len || part[len - 1] != '$') return strstr(path, part) != NULL;
    return path_len >= len - 1 && !strncmp(path + path_len - (len - 1), part, len - 1);
}

static int fails(const char *call, const char *path) {
    if (!fail_part || strcmp(call, fail_call) || !has(path, fail_part)) return 0;
    if (--fail_after > 0) return 0;
    errno = fail_errno;
    return 1;
}

static int synced(int fd) {
    char path[4096], key[KEY];
    struct stat st;
    int result = 0;
    pthread_mutex_lock(&lock);
    if (watched(fd, path)) {
        if (fails("sync", path)) {
            result = -1;
        } else if (!(forget && has(path, forget)) && !fstat(fd, &st) && !key_of(fd, key)) {
            if (S_ISDIR(st.st_mode)) {
                list_directory(fd, key);
            } else {
                int is_new = shadow_file("files", key, O_RDONLY);
                sync_file(fd, key);
                if (is_new >= 0) close(is_new);
                else if (!strict) sync_name(path);
            }
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[4096];
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    if (!watched(fd, path)) return real_write(fd, bytes, count);
    pthread_mutex_lock(&lock);
    ssize_t written = fails("write", path) ? -1 : real_write(fd, bytes, count);
    int error = errno;
    if (written > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);
        note(fd, end - written, end);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

/* Only some of it is written before the call fails: a torn write. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[4096];
    if (!real_writev) real_writev = dlsym(RTLD_NEXT, "writev");
    if (!watched(fd, path)) return real_writev(fd, parts, count);
    pthread_mutex_lock(&lock);
    ssize_t written = -1;
    int failed = fails("write", path), error = errno;
    if (!failed) written = real_writev(fd, parts, count), error = errno;
    else real_write(fd, parts[0].iov_base, parts[0].iov_len / 2);
    if (written > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);
        note(fd, end - written, end);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) {
    char path[4096];
    if (!real_pwrite) real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    if (!watched(fd, path)) return real_pwrite(fd, bytes, count, at);
    pthread_mutex_lock(&lock);
    ssize_t written = fails("write", path) ? -1 : real_pwrite(fd, bytes, count, at);
    int error = errno;
    if (written > 0) note(fd, at, at + written);
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

/* Everything that is there when the process starts. */
static void take_as_durable(const char *path) {
    char key[KEY], child[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || key_of(fd, key)) die(path);
    if (S_ISDIR(st.st_mode)) {
        list_directory(fd, key);
        DIR *dir = opendir(path);
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
            if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) < (int)sizeof child) take_as_durable(child);
        }
        if (dir) closedir(dir);
    } else {
        int to = shadow_file("files", key, O_RDWR | O_CREAT | O_TRUNC);
        if (to < 0 || real_ftruncate(to, st.st_size)) die("shadow");
        for (off_t at = 0; at < st.st_size; at += 4096) copy(fd, to, at, at + 4096 < st.st_size ? at + 4096 : st.st_size);
        close(to);
    }
    close(fd);
}

__attribute__((constructor)) static void start(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    const char *watch = getenv("SHIM_ROOT"), *keep = getenv("SHIM_SHADOW"), *fail = getenv("SHIM_FAIL");
    if (!watch || !keep) return;
    forget = getenv("SHIM_FORGET");
    strict = getenv("SHIM_STRICT") != NULL;
    snprintf(shadow, sizeof shadow, "%s", keep);
    static char part[256];
    if (fail && sscanf(fail, "%15[^,],%d,%ld,%255s", fail_call, &fail_errno, &fail_after, part) == 4) fail_part = part;
    char resolved[4096];
    if (!realpath(watch, resolved)) die(watch);
    take_as_durable(resolved);
    strcpy(root, resolved);
}
