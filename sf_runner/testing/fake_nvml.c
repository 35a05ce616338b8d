/* A stand-in for NVIDIA's libnvidia-ml.so.1 on machines without a GPU.
 *
 * Every call reads the text file named by SF_FAKE_NVML_STATE, so a test changes the machine by replacing that file.
 * A line is `<device> <key> <value>`; a device is `system`, a GPU's index (`2`) or a MIG instance of it (`2.0`):
 *     system driver 550.54.15 | system count 4 | system generation 1 | system error nvmlInitWithFlags 9
 *     2 uuid GPU-... | 2 name NVIDIA A100 | 2 total 40960 | 2 reserved 512 | 2 used 100 | 2 util 35 | 2 temp 51
 *     2 process 4711 2000 | 2 mps_process 4712 - | 2 mig 1 | 2 mig_max 7 | 2 error nvmlDeviceGetMemoryInfo 15
 *     2 hang nvmlDeviceGetMemoryInfo (until the line is gone)
 * Memory is in MB, `-` is a process whose memory the driver does not tell, `error * CODE` fails every call of a device.
 * A changed `generation` makes every call fail as uninitialized until the library is started again.
 * Processes may also announce themselves: each file <pid> in SF_FAKE_NVML_CLAIMS holds lines `<uuid> <MB>`, which
 * count as memory used by that process for as long as it lives. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, MISMATCH = 25 };
enum { MAX_GPUS = 16, MAX_MIG = 8, MAX_PROCESSES = 256, MEMORY_V2 = 0x02000028 };
typedef unsigned int uint;
typedef unsigned long long mem;
typedef struct { char id[16]; uint instance; } device;
typedef struct { uint pid; mem used; uint gpu_instance, compute_instance; } process;
typedef struct { mem total, free, used; } memory_v1;
typedef struct { uint version; mem total, reserved, free, used; } memory_v2;
typedef struct { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; } pci;

static device gpus[MAX_GPUS], instances[MAX_GPUS][MAX_MIG];
static long generation = -1;

/* The value of the nth line `id key value`; 0 when there is none. */
static int find(const char *id, const char *key, int nth, char value[256]) {
    const char *path = getenv("SF_FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512], line_id[32], line_key[32];
    int seen = 0, at = 0, found = 0;
    while (file && !found && fgets(line, sizeof line, file))
        if (sscanf(line, "%31s %31s %n", line_id, line_key, &at) == 2 && !strcmp(line_id, id) &&
            !strcmp(line_key, key) && seen++ == nth) {
            line[strcspn(line, "\n")] = 0;
            snprintf(value, 256, "%s", line + at);
            found = 1;
        }
    if (file) fclose(file);
    return found;
}

static mem number(const char *id, const char *key, mem missing) {
    char value[256];
    return find(id, key, 0, value) ? strtoull(value, NULL, 10) : missing;
}

/* The error to return for this call on this device, 0 for none. */
static int failing(const char *id, const char *call) {
    char value[256], name[128];
    int code;
    while (find(id, "hang", 0, value) && !strcmp(value, call)) usleep(1000);
    if ((long)number("system", "generation", 1) != generation) return UNINITIALIZED;
    for (int i = 0; find(id, "error", i, value); i++)
        if (sscanf(value, "%127s %d", name, &code) == 2 && (!strcmp(name, call) || !strcmp(name, "*"))) return code;
    return OK;
}
#define CHECK(id) do { int code = failing(id, __func__); if (code) return code; } while (0)

/* Processes of the state file and, unless `key` is for MPS, those that announced themselves. */
static uint list_processes(const device *d, const char *key, process out[MAX_PROCESSES]) {
    char value[256], uuid[256] = "", line_uuid[96], used[32], path[512];
    uint n = 0;
    for (; n < MAX_PROCESSES && find(d->id, key, n, value); n++) {
        sscanf(value, "%u %31s", &out[n].pid, used);
        out[n].used = *used == '-' ? ~0ull : strtoull(used, NULL, 10) << 20;
        out[n].gpu_instance = out[n].compute_instance = ~0u;
    }
    const char *claims = getenv("SF_FAKE_NVML_CLAIMS");
    DIR *dir = claims && !strcmp(key, "process") && find(d->id, "uuid", 0, uuid) ? opendir(claims) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        int pid = atoi(e->d_name);
        mem mb;
        if (pid <= 0 || (kill(pid, 0) && errno == ESRCH)) continue;
        snprintf(path, sizeof path, "%s/%s", claims, e->d_name);
        FILE *file = fopen(path, "r");
        while (file && n < MAX_PROCESSES && fscanf(file, "%95s %llu", line_uuid, &mb) == 2)
            if (!strcmp(uuid, line_uuid)) out[n++] = (process){(uint)pid, mb << 20, ~0u, ~0u};
        if (file) fclose(file);
    }
    if (dir) closedir(dir);
    return n;
}

static int give_processes(const device *d, const char *key, uint *count, process *out) {
    process found[MAX_PROCESSES];
    uint n = list_processes(d, key, found), room = out ? *count : 0;
    *count = n;
    if (n > room) return TOO_SMALL;
    if (n) memcpy(out, found, n * sizeof *out);
    return OK;
}

static memory_v2 memory_of(const device *d) {
    process found[MAX_PROCESSES];
    memory_v2 m = {MEMORY_V2, number(d->id, "total", 0) << 20, number(d->id, "reserved", 0) << 20, 0, 0};
    m.used = number(d->id, "used", 0) << 20;
    for (uint n = list_processes(d, "process", found); n--;)
        if (found[n].used != ~0ull) m.used += found[n].used;
    m.free = m.total > m.reserved + m.used ? m.total - m.reserved - m.used : 0;
    return m;
}

static int text(const char *id, const char *key, char *out, uint length) {
    char value[256];
    if (!find(id, key, 0, value)) return UNSUPPORTED;
    snprintf(out, length, "%s", value);
    return OK;
}

int nvmlInitWithFlags(uint flags) {
    (void)flags;
    generation = (long)number("system", "generation", 1);
    int code = failing("system", __func__);
    if (code) generation = -1;
    return code;
}
int nvmlShutdown(void) { CHECK("system"); generation = -1; return OK; }
int nvmlSystemGetDriverVersion(char *out, uint n) { CHECK("system"); return text("system", "driver", out, n); }
int nvmlDeviceGetCount_v2(uint *n) { CHECK("system"); *n = (uint)number("system", "count", 0); return OK; }

int nvmlDeviceGetHandleByIndex_v2(uint i, device **out) {
    if (i >= MAX_GPUS || i >= number("system", "count", 0)) return INVALID;
    snprintf(gpus[i].id, sizeof gpus[i].id, "%u", i);
    CHECK(gpus[i].id);
    *out = &gpus[i];
    return OK;
}
int nvmlDeviceGetIndex(device *d, uint *out) { CHECK(d->id); *out = (uint)atoi(d->id); return OK; }
int nvmlDeviceGetName(device *d, char *out, uint n) { CHECK(d->id); return text(d->id, "name", out, n); }
int nvmlDeviceGetUUID(device *d, char *out, uint n) { CHECK(d->id); return text(d->id, "uuid", out, n); }
int nvmlDeviceGetPciInfo_v3(device *d, pci *out) {
    CHECK(d->id);
    memset(out, 0, sizeof *out);
    return text(d->id, "pci", out->bus_id, sizeof out->bus_id);
}

static int read_number(const device *d, const char *key, uint *out) {
    mem value = number(d->id, key, ~0ull);
    if (value == ~0ull) return UNSUPPORTED;
    *out = (uint)value;
    return OK;
}
int nvmlDeviceGetMemoryInfo(device *d, memory_v1 *out) {
    CHECK(d->id);
    memory_v2 m = memory_of(d);
    *out = (memory_v1){m.total, m.free, m.used + m.reserved};
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *out) {
    CHECK(d->id);
    if (out->version != MEMORY_V2) return MISMATCH;
    *out = memory_of(d);
    return OK;
}
int nvmlDeviceGetUtilizationRates(device *d, uint out[2]) { CHECK(d->id); return read_number(d, "util", out); }
int nvmlDeviceGetTemperature(device *d, int s, uint *out) { (void)s; CHECK(d->id); return read_number(d, "temp", out); }
int nvmlDeviceGetComputeMode(device *d, uint *out) { CHECK(d->id); return read_number(d, "compute_mode", out); }
int nvmlDeviceGetComputeRunningProcesses_v3(device *d, uint *n, process *out) {
    CHECK(d->id);
    return give_processes(d, "process", n, out);
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(device *d, uint *n, process *out) {
    CHECK(d->id);
    return give_processes(d, "mps_process", n, out);
}
int nvmlDeviceGetMigMode(device *d, uint *now, uint *pending) {
    CHECK(d->id);
    int code = read_number(d, "mig", now);
    *pending = *now;
    return code;
}
int nvmlDeviceGetMaxMigDeviceCount(device *d, uint *out) { CHECK(d->id); return read_number(d, "mig_max", out); }
int nvmlDeviceGetMigDeviceHandleByIndex(device *d, uint i, device **out) {
    char value[256];
    CHECK(d->id);
    if (i >= MAX_MIG) return INVALID;
    device *instance = &instances[atoi(d->id)][i];
    snprintf(instance->id, sizeof instance->id, "%.8s.%u", d->id, i);
    instance->instance = i;
    CHECK(instance->id);
    if (!find(instance->id, "uuid", 0, value)) return NOT_FOUND;
    *out = instance;
    return OK;
}
int nvmlDeviceGetGpuInstanceId(device *d, uint *out) { CHECK(d->id); return read_number(d, "gpu_instance", out); }
int nvmlDeviceGetComputeInstanceId(device *d, uint *out) { CHECK(d->id); *out = 0; return OK; }
