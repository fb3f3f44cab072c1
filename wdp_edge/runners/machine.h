/* What a runner asks the machine about itself. */
#ifndef WDP_MACHINE_H
#define WDP_MACHINE_H

#include <stdint.h>

/* Milliseconds that have passed, and those in which this thread had a core. */
double wall_ms(void);
double thread_ms(void);

/* Keeps the process on the CPUs of a list such as "0,1". Returns 0, or -1 for a list that is wrong. */
int keep_to_cpus(const char *list);

/* Degrees Celsius of the hottest sensor, MHz of the fastest CPU that the process may use; NAN for what is hidden. */
typedef struct {
    double temperature, clock_mhz;
} Reading;

Reading read_machine(void);

/* The most memory that the process ever had, in bytes. */
int64_t peak_rss(void);

#endif
