/* The callback makes no system call: a thread that the kernel lets make none but exit runs it ten thousand times,
 * with swaps of every kind going on, knobs turning and the capture filling. Linux only. Exits 0 if all is well; at
 * any other call the kernel kills the process, which the test also tries.
 *
 * A filter, not seccomp's strict mode: that one also takes away the processor's time stamp counter, from which
 * clock_gettime reads without a system call. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "twice.h"

#if defined(__linux__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLBACKS = 10000, BLOCK_FRAMES = 64, ROWS = 2 };

typedef struct strict {
    bl_host *host;
    int forbidden; /* make one call that is not allowed */
    atomic_int done;
} strict;

/* From now on this thread may end itself, and nothing else. */
static int allow_only_exit(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog program = {.len = sizeof rules / sizeof *rules, .filter = rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void *call_strictly(void *argument)
{
    strict *self = argument;
    static float input[BLOCK_FRAMES * ROWS], output[BLOCK_FRAMES * ROWS];
    for (int i = 0; i < BLOCK_FRAMES * ROWS; i++) {
        input[i] = 0.001f * (float)i;
    }
    if (allow_only_exit() == 0) {
        for (int block = 0; block < CALLBACKS; block++) {
            bl_host_callback(input, output, BLOCK_FRAMES, NULL, (unsigned long)(block & 31), self->host);
        }
        if (self->forbidden) {
            syscall(SYS_getppid);
        }
        atomic_store(&self->done, 1);
    }
    syscall(SYS_exit, 0); /* the thread alone; pthread_exit would make calls of its own */
    return NULL;
}

static void supervise(strict *self, const bl_program *program)
{
    int64_t serial = 1;
    /* Sleeps are the main thread's: it lives under no restriction. */
    while (!atomic_load(&self->done)) {
        const bl_entry entry = {
            .engine = new_engine(program, ROWS),
            .serial = serial,
            .latency_frames = (int32_t)(serial % 3) * 50,
            .warm_frames = 200,
            .fade_frames = 100,
            .alone = serial % 4 == 0,
        };
        if (bl_host_swap(self->host, &entry) != BL_OK) {
            free_engine(entry.engine);
        }
        bl_host_set(self->host, serial, 0, 0.5f, 0);
        reclaim(self->host);
        serial++;
        sleep_ms(1);
    }
}

static void run(int forbidden)
{
    const int32_t map[ROWS] = {0, 1};
    bl_program *program = new_program();
    const bl_entry first = {.engine = new_engine(program, ROWS)};
    const bl_host_config config = {
        .monitor = new_monitor(ROWS, 1 << 20),
        .input_channels = ROWS,
        .output_channels = ROWS,
        .input_map = map,
        .output_map = map,
        .calm_frames = 100,
        .limiter = 1,
    };
    strict self = {.forbidden = forbidden};
    CHECK(bl_host_new(&config, &first, &self.host) == BL_OK);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, call_strictly, &self) == 0);
    supervise(&self, program);
    bl_stats stats;
    bl_monitor_stats(config.monitor, &stats);
    CHECK(stats.callbacks == CALLBACKS && stats.swaps > 0);
    printf("%lld callbacks, %lld swaps, no system call\n", (long long)stats.callbacks,
           (long long)stats.swaps);
}

/* In a process of its own, which is left as it is: threads that ended by themselves cannot be joined. */
static int status_of(int forbidden)
{
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(120); /* where the kernel takes no filter the thread never says that it is done */
        run(forbidden);
        fflush(stdout);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

int main(void)
{
    const int status = status_of(0), forbidden = status_of(1);
    if (status != 0) {
        fprintf(stderr, "status %#x\n", (unsigned)status);
    }
    CHECK(status == 0);
    CHECK(WIFSIGNALED(forbidden));
    return 0;
}
#else
int main(void) { return 0; }
#endif
