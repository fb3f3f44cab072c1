/* A plugin for qemu's user mode: how many instructions each marked region of a program executes.
 *
 *   qemu-aarch64 -plugin icount.so,out=FILE runner --mark ...
 *
 * A program marks a region with syscall(9999, 1) before and syscall(9999, 2) after it, from one thread. FILE gets
 * one line per region, as soon as it ends: the instructions, as a decimal number.
 *
 * PLUGIN_API is the version of qemu's plugin interface: 1 up to qemu 8, 2 from qemu 9 on. Distributions have no
 * qemu-plugin.h, so what is used of it is declared here. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 9999
#define MARK_START 1
#define MARK_END 2
#define ADD 0 /* QEMU_PLUGIN_INLINE_ADD_U64 */

typedef uint64_t PluginId;
typedef struct qemu_plugin_tb Block;

size_t qemu_plugin_tb_n_insns(const Block *block);
void qemu_plugin_register_vcpu_tb_trans_cb(PluginId id, void (*callback)(PluginId, Block *));
void qemu_plugin_register_vcpu_syscall_cb(
    PluginId id, void (*callback)(PluginId, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                  uint64_t, uint64_t, uint64_t));

EXPORT int qemu_plugin_version = PLUGIN_API;

static FILE *out;
static uint64_t start;

#if PLUGIN_API == 1

void qemu_plugin_register_vcpu_tb_exec_inline(Block *block, int operation, void *counter, uint64_t value);

static uint64_t counter;

static void make_counter(void) {}

static void count(Block *block, uint64_t instructions) {
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, &counter, instructions);
}

static uint64_t counted(unsigned cpu) {
    (void)cpu; /* one counter for all threads */
    return counter;
}

#else

typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} Counter;

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes);
uint64_t qemu_plugin_u64_get(Counter counter, unsigned cpu);
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(Block *block, int operation, Counter counter, uint64_t value);

static Counter counter;

static void make_counter(void) {
    counter.score = qemu_plugin_scoreboard_new(sizeof(uint64_t));
}

static void count(Block *block, uint64_t instructions) {
    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(block, ADD, counter, instructions);
}

static uint64_t counted(unsigned cpu) {
    return qemu_plugin_u64_get(counter, cpu);
}

#endif

static void translated(PluginId id, Block *block) {
    (void)id;
    count(block, qemu_plugin_tb_n_insns(block));
}

static void system_call(PluginId id, unsigned cpu, int64_t number, uint64_t mark, uint64_t a2, uint64_t a3,
                        uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != MARK)
        return;
    if (mark == MARK_START) {
        start = counted(cpu);
    } else if (mark == MARK_END) {
        fprintf(out, "%" PRIu64 "\n", counted(cpu) - start);
        fflush(out);
    }
}

EXPORT int qemu_plugin_install(PluginId id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || (out = fopen(argv[0] + 4, "w")) == NULL) {
        fputs("icount: give out=FILE, a file that can be written\n", stderr);
        return 1;
    }
    make_counter();
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
