/* What all runners share. docs/reference/runners.md describes the options, the output and the errors.
 *
 * contract.c has main(): it reads the options, loads the files, times them and writes the JSON lines.
 * A runner is one file that implements the part below "For each runtime". */
#ifndef WDP_CONTRACT_H
#define WDP_CONTRACT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MAX_RANK 8

typedef enum { FLOAT32, UINT8 } Dtype;

typedef struct {
    Dtype dtype;
    int rank;
    int64_t sizes[MAX_RANK];
} TensorType;

/* Ends the process with exit code 3 and one line on stderr: the message and the runtime's own last words. */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* --- For each runtime. The files have one float32 or uint8 input and one float32 output. --- */

typedef struct Program Program;

extern const char runtime_name[];

/* The file, loaded and ready to run with this many threads. Writes the type of its input to *input. */
Program *load_program(const char *path, int threads, TensorType *input);

/* Copies the input's values to where the runtime reads them in every run. */
void write_input(Program *program, const void *data, size_t bytes);

void run_program(Program *program);

/* The output of the last run, valid until the next one, and how many values it has. */
const float *read_output(Program *program, size_t *count);

#ifdef __cplusplus
}
#endif

#endif
