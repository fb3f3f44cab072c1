#define _GNU_SOURCE
#include "contract.h"

#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine.h"

#define EXIT_REFUSED 3
#define MARK 9999 /* no system call has this number; icount.c watches for it */
#define MARK_START 1L
#define MARK_END 2L
#define SHOWN 16 /* output values in the last message */
/* When a file is warm: wdp_edge/protocols/device.py has the same rule. */
#define ALIKE 3
#define ALIKE_RATIO 1.05
#define WARM_MS 1000.0

typedef struct {
    int threads, rounds, runs, warmup, settle;
    const char *cpus, *inputs, *outputs;
    bool mark;
} Options;

typedef struct {
    const char *path;
    Program *program;
    TensorType input;
    double load_ms;
    double *times; /* of the current round */
    int untimed;   /* runs of the current round before the timed ones */
} Entry;

static FILE *out;
static int err = STDERR_FILENO;
static int said = -1;           /* what the runtime wrote to stdout and stderr */
static const char *busy_with = ""; /* the file that is loaded or run, for the message about a crash */

/* --- errors --- */

/* The runtime's last line that has a letter in it; "" when it said nothing. */
static void last_words(char *words, size_t room) {
    char text[4096];
    off_t size = said < 0 ? 0 : lseek(said, 0, SEEK_END);
    off_t from = size > (off_t)sizeof text - 1 ? size - (off_t)sizeof text + 1 : 0;
    ssize_t got = size > 0 ? pread(said, text, sizeof text - 1, from) : 0;
    text[got > 0 ? got : 0] = '\0';
    words[0] = '\0';
    for (char *rest = text, *line; (line = strsep(&rest, "\r\n")) != NULL;)
        if (*line != '\0')
            snprintf(words, room, " (%.300s)", line);
}

void fail(const char *format, ...) {
    char message[1024], words[320];
    va_list values;
    va_start(values, format);
    vsnprintf(message, sizeof message, format, values);
    va_end(values);
    last_words(words, sizeof words);
    for (char *at = message; *at; at++)
        if (*at == '\n')
            *at = ' ';
    dprintf(err, "%s%s\n", message, words);
    _exit(EXIT_REFUSED);
}

/* A runtime may crash on a damaged file. Only what a signal handler may call is used here. */
static void crashed(int number) {
    char text[] = "crashed with signal 00 on ";
    text[20] = (char)('0' + number / 10);
    text[21] = (char)('0' + number % 10);
    if (write(err, text, sizeof text - 1) < 0 || write(err, busy_with, strlen(busy_with)) < 0 || write(err, "\n", 1) < 0)
        _exit(EXIT_REFUSED);
    _exit(EXIT_REFUSED);
}

/* Runtimes write to stdout and stderr what they like; ours carry only what the contract says. */
static void take_the_streams(void) {
    out = fdopen(dup(STDOUT_FILENO), "w");
    err = dup(STDERR_FILENO);
    said = memfd_create("said", MFD_CLOEXEC);
    if (out == NULL || err < 0 || said < 0)
        fail("cannot open files");
    dup2(said, STDOUT_FILENO);
    dup2(said, STDERR_FILENO);
    const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        signal(crashes[i], crashed);
}

/* --- options --- */

static int number(const char *name, const char *text, int least) {
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < least || value > 1000000)
        fail("--%s must be a whole number of at least %d, not '%s'", name, least, text);
    return (int)value;
}

static Options read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"threads", required_argument, NULL, 't'}, {"rounds", required_argument, NULL, 'r'},
        {"runs", required_argument, NULL, 'k'},    {"warmup", required_argument, NULL, 'w'},
        {"settle", required_argument, NULL, 's'},  {"cpus", required_argument, NULL, 'c'},
        {"mark", no_argument, NULL, 'm'},          {"inputs", required_argument, NULL, 'i'},
        {"outputs", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0},
    };
    Options options = {.threads = 1, .rounds = 12, .runs = 15, .warmup = 3, .settle = 20};
    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (letter) {
        case 't': options.threads = number("threads", optarg, 1); break;
        case 'r': options.rounds = number("rounds", optarg, 1); break;
        case 'k': options.runs = number("runs", optarg, 1); break;
        case 'w': options.warmup = number("warmup", optarg, 0); break;
        case 's': options.settle = number("settle", optarg, 0); break;
        case 'c': options.cpus = optarg; break;
        case 'm': options.mark = true; break;
        case 'i': options.inputs = optarg; break;
        case 'o': options.outputs = optarg; break;
        default: fail("unknown option or missing value: %s", argv[optind - 1]);
        }
    }
    if (optind == argc)
        fail("usage: runner --threads N --rounds R --runs K --warmup W --settle S [--cpus 0,1] [--mark] FILE..., or"
             " runner --threads N --inputs FILE --outputs FILE FILE");
    if ((options.inputs == NULL) != (options.outputs == NULL))
        fail("--inputs and --outputs belong together");
    if (options.inputs != NULL && argc - optind != 1)
        fail("--inputs are for one file, not %d", argc - optind);
    if (options.cpus != NULL && keep_to_cpus(options.cpus) != 0)
        fail("--cpus must list CPUs of this machine, such as 0,1, not '%s'", options.cpus);
    return options;
}

/* --- files --- */

static size_t value_count(const TensorType *type) {
    size_t count = 1;
    for (int i = 0; i < type->rank; i++)
        count *= (size_t)type->sizes[i];
    return count;
}

static size_t value_bytes(const TensorType *type) {
    return type->dtype == FLOAT32 ? sizeof(float) : 1;
}

static void *room_for_input(const Entry *entry) {
    void *data = malloc(value_count(&entry->input) * value_bytes(&entry->input));
    if (data == NULL)
        fail("no memory for the input of %s", entry->path);
    return data;
}

/* The same values for every file of a size, so that the output can be checked against another runtime. */
static void give_input(Entry *entry) {
    size_t count = value_count(&entry->input), width = value_bytes(&entry->input);
    void *data = room_for_input(entry);
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        if (entry->input.dtype == FLOAT32)
            ((float *)data)[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
        else
            ((uint8_t *)data)[i] = (uint8_t)(state >> 24);
    }
    write_input(entry->program, data, count * width);
    free(data);
}

static void load(Entry *entry, const char *path, const Options *options) {
    struct stat about;
    entry->path = busy_with = path;
    if (stat(path, &about) != 0 || !S_ISREG(about.st_mode) || access(path, R_OK) != 0)
        fail("there is no file %s that can be read", path);
    double start = wall_ms();
    entry->program = load_program(path, options->threads, &entry->input);
    entry->load_ms = wall_ms() - start;
    give_input(entry);
    entry->times = calloc((size_t)options->runs, sizeof *entry->times);
    if (entry->times == NULL)
        fail("no memory for %d times", options->runs);
}

/* Every input in one file, and the output of each to another: values of this machine without anything between them. */
static void run_inputs(Entry *entry, const Options *options) {
    FILE *given = fopen(options->inputs, "rb"), *results = fopen(options->outputs, "wb");
    if (given == NULL || results == NULL)
        fail("cannot open %s", given == NULL ? options->inputs : options->outputs);
    size_t bytes = value_count(&entry->input) * value_bytes(&entry->input), got, runs = 0, count;
    void *data = room_for_input(entry);
    while ((got = fread(data, 1, bytes, given)) == bytes) {
        write_input(entry->program, data, bytes);
        run_program(entry->program);
        const float *values = read_output(entry->program, &count);
        if (fwrite(values, sizeof *values, count, results) != count)
            fail("cannot write to %s", options->outputs);
        runs++;
    }
    if (got != 0 || ferror(given) || runs == 0)
        fail("%s does not hold inputs of %zu bytes each", options->inputs, bytes);
    if (fclose(results) != 0)
        fail("cannot write to %s", options->outputs);
}

/* --- timing --- */

/* With one thread the smaller of wall and CPU time: a run that nobody interrupted has both alike. */
static double timed_run(Program *program, int threads, bool mark) {
    double wall = wall_ms(), busy = thread_ms();
    if (mark)
        syscall(MARK, MARK_START);
    run_program(program);
    if (mark)
        syscall(MARK, MARK_END);
    busy = thread_ms() - busy;
    wall = wall_ms() - wall;
    return threads == 1 && busy < wall ? busy : wall;
}

/* last: of the runs so far, the newest first. total: milliseconds of all of them. */
static bool is_warm(int done, const double last[ALIKE], double total, const Options *options) {
    if (done < options->warmup)
        return false;
    if (done >= options->warmup + options->settle || total >= WARM_MS)
        return true;
    double shortest = last[0], longest = last[0];
    for (int i = 1; i < ALIKE; i++) {
        shortest = fmin(shortest, last[i]);
        longest = fmax(longest, last[i]);
    }
    return done >= ALIKE && longest <= ALIKE_RATIO * shortest;
}

static void warm_up(Entry *entry, const Options *options) {
    double last[ALIKE] = {0}, total = 0;
    busy_with = entry->path;
    entry->untimed = 0;
    while (!is_warm(entry->untimed, last, total, options)) {
        memmove(last + 1, last, sizeof last - sizeof *last);
        last[0] = timed_run(entry->program, options->threads, false);
        total += last[0];
        entry->untimed++;
    }
}

static void time_runs(Entry *entry, const Options *options) {
    for (int i = 0; i < options->runs; i++)
        entry->times[i] = timed_run(entry->program, options->threads, options->mark);
}

/* --- messages --- */

static void end_message(void) {
    fputs("}\n", out);
    if (fflush(out) != 0)
        fail("cannot write to stdout");
}

static void tell_loaded(const Entry *entries, int count, const Options *options) {
    fprintf(out, "{\"event\":\"loaded\",\"runtime\":\"%s\",\"threads\":%d,\"files\":[", runtime_name, options->threads);
    for (int i = 0; i < count; i++) {
        const TensorType *input = &entries[i].input;
        fprintf(out, "%s{\"load_ms\":%.3f,\"input\":[", i ? "," : "", entries[i].load_ms);
        for (int k = 0; k < input->rank; k++)
            fprintf(out, "%s%lld", k ? "," : "", (long long)input->sizes[k]);
        fprintf(out, "],\"dtype\":\"%s\"}", input->dtype == FLOAT32 ? "float32" : "uint8");
    }
    fputc(']', out);
    end_message();
}

static void tell_round(int number, const Entry *entries, int count, int runs) {
    fprintf(out, "{\"event\":\"round\",\"number\":%d,\"ms\":[", number);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < runs; k++)
            fprintf(out, "%s%.6f", k ? "," : i ? ",[" : "[", entries[i].times[k]);
        fputc(']', out);
    }
    fputs("],\"untimed\":[", out);
    for (int i = 0; i < count; i++)
        fprintf(out, "%s%d", i ? "," : "", entries[i].untimed);
    fputc(']', out);
    end_message();
}

static void tell_output(const Entry *entry) {
    size_t count;
    double sum = 0;
    const float *values = read_output(entry->program, &count);
    for (size_t i = 0; i < count; i++)
        sum += fabs((double)values[i]);
    if (!isfinite(sum))
        fail("%s gives values that are infinite or no numbers", entry->path);
    fprintf(out, "{\"abs_sum\":%.9g,\"first\":[", sum);
    for (size_t i = 0; i < count && i < SHOWN; i++)
        fprintf(out, "%s%.9g", i ? "," : "", (double)values[i]);
    fprintf(out, "],\"count\":%zu}", count);
}

static void tell_change(const char *name, double before, double after) {
    if (isnan(before) || isnan(after))
        fprintf(out, ",\"%s\":null", name);
    else
        fprintf(out, ",\"%s\":[%.1f,%.1f]", name, before, after);
}

int main(int argc, char **argv) {
    take_the_streams();
    Options options = read_options(argc, argv);
    int count = argc - optind;
    Entry *entries = calloc((size_t)count, sizeof *entries);
    if (entries == NULL)
        fail("no memory for %d files", count);
    for (int i = 0; i < count; i++)
        load(&entries[i], argv[optind + i], &options);
    tell_loaded(entries, count, &options);
    if (options.inputs != NULL) {
        run_inputs(&entries[0], &options);
        _exit(0);
    }

    Reading before = {NAN, NAN}, after = {NAN, NAN};
    for (int round = 0; round < options.rounds; round++) {
        for (int i = 0; i < count; i++) {
            /* Every second round goes backwards, so that drift within a round cancels. */
            Entry *entry = &entries[round % 2 ? count - 1 - i : i];
            warm_up(entry, &options);
            /* At work: an idle machine lowers its clock. An emulator would show its host's, and reading it leaves the
             * heap as no run does: ORT's next run would take another number of instructions. */
            if (round == 0 && i == 0 && !options.mark)
                before = read_machine();
            time_runs(entry, &options);
        }
        if (round == options.rounds - 1 && !options.mark)
            after = read_machine();
        tell_round(round, entries, count, options.runs);
    }

    fputs("{\"event\":\"done\",\"outputs\":[", out);
    for (int i = 0; i < count; i++) {
        if (i)
            fputc(',', out);
        tell_output(&entries[i]);
    }
    fprintf(out, "],\"peak_rss_bytes\":%lld", (long long)peak_rss());
    tell_change("temperature", before.temperature, after.temperature);
    tell_change("clock_mhz", before.clock_mhz, after.clock_mhz);
    end_message();
    /* Runtimes tear down threads and caches for long; nobody waits for that. */
    _exit(0);
}
