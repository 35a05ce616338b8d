/* Preloaded into a runner and its jobs: a wall clock that is set while they run, and a slow disk.
 *
 * The file that WEATHER names holds: by how many seconds the wall clock is off (double), of how many in 1000 calls the
 * disk is slow (uint32), and for how many microseconds then at most (uint32). Whoever writes it changes the weather.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct weather {
    volatile double offset_s;
    volatile uint32_t slow_per_1000;
    volatile uint32_t slow_us;
};

static struct weather fair;
static struct weather *weather = &fair;
static uint32_t dice;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WEATHER");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *page = mmap(NULL, sizeof *weather, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED)
        weather = page;
    dice = (uint32_t)getpid() * 2654435761u + 1;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    long code = syscall(SYS_clock_gettime, id, now);
    if (code == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + (int64_t)(weather->offset_s * 1e9);
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return (int)code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out)
        *out = exact.tv_sec;
    return exact.tv_sec;
}

static void maybe_slow(void) {
    dice = dice * 1664525u + 1013904223u;
    if ((dice >> 8) % 1000 >= weather->slow_per_1000 || !weather->slow_us)
        return;
    uint32_t us = (dice >> 4) % weather->slow_us;
    struct timespec pause = {us / 1000000, (long)(us % 1000000) * 1000};
    nanosleep(&pause, NULL);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    struct stat status;
    if (weather->slow_per_1000 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        maybe_slow();
    return syscall(SYS_write, fd, data, size);
}

int fsync(int fd) {
    maybe_slow();
    return NEXT(fsync)(fd);
}

int fdatasync(int fd) {
    maybe_slow();
    return NEXT(fdatasync)(fd);
}

int rename(const char *from, const char *to) {
    maybe_slow();
    return NEXT(rename)(from, to);
}

int unlink(const char *path) {
    maybe_slow();
    return NEXT(unlink)(path);
}
