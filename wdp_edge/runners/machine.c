#define _GNU_SOURCE
#include "machine.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Sensors that are not connected give values such as 0 or -273 degrees. */
#define COLDEST 1.0
#define HOTTEST 150.0

static double milliseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

double wall_ms(void) {
    return milliseconds(CLOCK_MONOTONIC);
}

double thread_ms(void) {
    return milliseconds(CLOCK_THREAD_CPUTIME_ID);
}

int keep_to_cpus(const char *list) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (const char *at = list; at != NULL; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        char *end;
        long cpu = strtol(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || cpu < 0 || cpu >= CPU_SETSIZE)
            return -1;
        CPU_SET((size_t)cpu, &cpus);
    }
    return sched_setaffinity(0, sizeof cpus, &cpus);
}

static double read_number(const char *path) {
    double value = NAN;
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%lf", &value) != 1)
            value = NAN;
        fclose(file);
    }
    return value;
}

static double temperature(void) {
    double hottest = NAN;
    char path[64];
    for (int zone = 0; zone < 128; zone++) {
        snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", zone);
        double degrees = read_number(path) / 1e3;
        if (degrees >= COLDEST && degrees <= HOTTEST && !(degrees <= hottest))
            hottest = degrees;
    }
    return hottest;
}

static double clock_mhz(void) {
    /* Not that of the core which runs this thread: it may be another one when it is asked again. */
    double fastest = NAN;
    cpu_set_t cpus;
    char path[96];
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        return NAN;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &cpus))
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", cpu);
        double mhz = read_number(path) / 1e3;
        if (mhz > 0 && !(mhz <= fastest))
            fastest = mhz;
    }
    return fastest;
}

Reading read_machine(void) {
    /* The clock first: it falls as soon as there is nothing to do. */
    double mhz = clock_mhz();
    return (Reading){.temperature = temperature(), .clock_mhz = mhz};
}

int64_t peak_rss(void) {
    /* getrusage would also count what the process that started us had before it became us. */
    long long kilobytes = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %lld kB", &kilobytes) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return (int64_t)kilobytes * 1024;
}
