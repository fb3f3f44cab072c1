/* What a runner asks the machine about itself. */
#ifndef WDP_MACHINE_H
#define WDP_MACHINE_H

#include <stdint.h>

/* Milliseconds that have passed, and those in which this thread had a core. */
double wall_ms(void);
double thread_ms(void);

/* Keeps the process on the CPUs of a list such as "0,1". Returns 0, or -1 for a list that is wrong. */
int keep_to_cpus(const char *list);

/* Degrees Celsius of the hottest sensor; NAN where none can be read. */
double temperature(void);

/* MHz of the CPU that runs this thread; NAN where it cannot be read. */
double clock_mhz(void);

/* The most memory that the process ever had, in bytes. */
int64_t peak_rss(void);

#endif
