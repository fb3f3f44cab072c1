/* Runs .tflite files with LiteRT: see contract.h. The wheel has libLiteRt.so but not its headers, so what is used of
 * its C interface is declared here. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract.h"

typedef int Status; /* 0 is success */
typedef struct LiteRtEnvironmentT *Environment;
typedef struct LiteRtModelT *Model;
typedef struct LiteRtOptionsT *Options;
typedef struct LiteRtOpaqueOptionsT *OpaqueOptions;
typedef struct LiteRtCompiledModelT *CompiledModel;
typedef struct LiteRtSubgraphT *Subgraph;
typedef struct LiteRtTensorT *Tensor;
typedef struct LiteRtTensorBufferT *Buffer;
typedef struct LiteRtTensorBufferRequirementsT *Requirements;

enum { ELEMENT_FLOAT32 = 1, ELEMENT_UINT8 = 3 };
enum { ACCELERATOR_CPU = 1 };
enum { LOCK_READ = 0, LOCK_WRITE = 1 };

typedef struct {
    int element;
    struct {
        unsigned rank : 7;
        bool has_strides : 1;
        int32_t sizes[8];
        uint32_t strides[8];
    } layout;
} RankedType;

Status LiteRtCreateEnvironment(int count, const void *options, Environment *environment);
Status LiteRtCreateModelFromFile(Environment environment, const char *path, Model *model);
Status LiteRtCreateOptions(Options *options);
Status LiteRtSetOptionsHardwareAccelerators(Options options, int accelerators);
Status LiteRtCreateOpaqueOptions(const char *kind, void *data, void (*free_data)(void *), OpaqueOptions *options);
Status LiteRtAddOpaqueOptions(Options options, OpaqueOptions added);
Status LiteRtCreateCompiledModel(Environment environment, Model model, Options options, CompiledModel *compiled);
Status LiteRtGetModelSubgraph(Model model, size_t index, Subgraph *subgraph);
Status LiteRtGetNumSubgraphInputs(Subgraph subgraph, size_t *count);
Status LiteRtGetNumSubgraphOutputs(Subgraph subgraph, size_t *count);
Status LiteRtGetSubgraphInput(Subgraph subgraph, size_t index, Tensor *tensor);
Status LiteRtGetSubgraphOutput(Subgraph subgraph, size_t index, Tensor *tensor);
Status LiteRtGetRankedTensorType(Tensor tensor, RankedType *type);
Status LiteRtGetCompiledModelInputBufferRequirements(CompiledModel model, size_t signature, size_t input,
                                                     Requirements *requirements);
Status LiteRtGetCompiledModelOutputBufferRequirements(CompiledModel model, size_t signature, size_t output,
                                                      Requirements *requirements);
Status LiteRtCreateManagedTensorBufferFromRequirements(Environment environment, const RankedType *type,
                                                       Requirements requirements, Buffer *buffer);
Status LiteRtGetTensorBufferPackedSize(Buffer buffer, size_t *bytes);
Status LiteRtLockTensorBuffer(Buffer buffer, void **data, int mode);
Status LiteRtUnlockTensorBuffer(Buffer buffer);
Status LiteRtRunCompiledModel(CompiledModel model, size_t signature, size_t input_count, Buffer *inputs,
                              size_t output_count, Buffer *outputs);

const char runtime_name[] = "litert";

struct Program {
    const char *path;
    CompiledModel compiled;
    Buffer input, output;
    float *values; /* of the output, once it has been read */
};

static void check(Status status, const char *path, const char *what) {
    if (status != 0)
        fail("LiteRT cannot %s %s: status %d", what, path, status);
}

static Environment the_environment(const char *path) {
    static Environment environment;
    if (environment == NULL)
        check(LiteRtCreateEnvironment(0, NULL, &environment), path, "start for");
    return environment;
}

static Options cpu_options(const char *path, int threads) {
    Options options;
    OpaqueOptions cpu;
    char *text = malloc(32);
    if (text == NULL)
        fail("no memory for the options of %s", path);
    snprintf(text, 32, "num_threads = %d\n", threads);
    check(LiteRtCreateOptions(&options), path, "make options for");
    check(LiteRtSetOptionsHardwareAccelerators(options, ACCELERATOR_CPU), path, "use the CPU for");
    check(LiteRtCreateOpaqueOptions("xnnpack", text, free, &cpu), path, "make CPU options for");
    check(LiteRtAddOpaqueOptions(options, cpu), path, "take CPU options for");
    return options;
}

/* A buffer for the one input or output, and its type. */
static Buffer make_buffer(const Program *program, Tensor tensor, bool is_input, RankedType *type) {
    Requirements requirements;
    Buffer buffer;
    check(LiteRtGetRankedTensorType(tensor, type), program->path, "tell the shapes of");
    check(is_input ? LiteRtGetCompiledModelInputBufferRequirements(program->compiled, 0, 0, &requirements)
                   : LiteRtGetCompiledModelOutputBufferRequirements(program->compiled, 0, 0, &requirements),
          program->path, "plan the buffers of");
    check(LiteRtCreateManagedTensorBufferFromRequirements(the_environment(program->path), type, requirements, &buffer),
          program->path, "make the buffers of");
    return buffer;
}

Program *load_program(const char *path, int threads, TensorType *input) {
    Model model;
    Subgraph graph;
    Tensor entry, result;
    size_t inputs, outputs;
    RankedType type, given;
    Program *program = calloc(1, sizeof *program);
    if (program == NULL)
        fail("no memory for %s", path);
    program->path = path;
    Environment environment = the_environment(path);
    check(LiteRtCreateModelFromFile(environment, path, &model), path, "load");
    check(LiteRtCreateCompiledModel(environment, model, cpu_options(path, threads), &program->compiled), path, "compile");
    check(LiteRtGetModelSubgraph(model, 0, &graph), path, "read");
    check(LiteRtGetNumSubgraphInputs(graph, &inputs), path, "read");
    check(LiteRtGetNumSubgraphOutputs(graph, &outputs), path, "read");
    if (inputs != 1 || outputs != 1)
        fail("%s does not take one input and give one output", path);
    check(LiteRtGetSubgraphInput(graph, 0, &entry), path, "read");
    check(LiteRtGetSubgraphOutput(graph, 0, &result), path, "read");
    program->input = make_buffer(program, entry, true, &type);
    program->output = make_buffer(program, result, false, &given);
    if (given.element != ELEMENT_FLOAT32 || (type.element != ELEMENT_FLOAT32 && type.element != ELEMENT_UINT8) ||
        type.layout.rank > MAX_RANK)
        fail("%s does not take float32 or uint8 and give float32", path);

    input->dtype = type.element == ELEMENT_FLOAT32 ? FLOAT32 : UINT8;
    input->rank = (int)type.layout.rank;
    for (int i = 0; i < input->rank; i++)
        input->sizes[i] = type.layout.sizes[i];
    return program;
}

void write_input(Program *program, const void *data, size_t bytes) {
    size_t room;
    void *at;
    check(LiteRtGetTensorBufferPackedSize(program->input, &room), program->path, "read");
    if (room != bytes)
        fail("the input of %s has %zu bytes, not %zu", program->path, room, bytes);
    check(LiteRtLockTensorBuffer(program->input, &at, LOCK_WRITE), program->path, "write the input of");
    memcpy(at, data, bytes);
    check(LiteRtUnlockTensorBuffer(program->input), program->path, "write the input of");
}

void run_program(Program *program) {
    check(LiteRtRunCompiledModel(program->compiled, 0, 1, &program->input, 1, &program->output), program->path, "run");
}

const float *read_output(Program *program, size_t *count) {
    size_t bytes;
    void *at;
    check(LiteRtGetTensorBufferPackedSize(program->output, &bytes), program->path, "read the output of");
    check(LiteRtLockTensorBuffer(program->output, &at, LOCK_READ), program->path, "read the output of");
    if (program->values == NULL && (program->values = malloc(bytes)) == NULL)
        fail("no memory for the output of %s", program->path);
    memcpy(program->values, at, bytes);
    /* A buffer that stays locked is not to be written by another run. */
    check(LiteRtUnlockTensorBuffer(program->output), program->path, "read the output of");
    *count = bytes / sizeof(float);
    return program->values;
}
