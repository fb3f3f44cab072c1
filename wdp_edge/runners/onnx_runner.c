/* Runs .onnx files with ONNX Runtime: see contract.h. */
#include <stdlib.h>
#include <string.h>

#include "contract.h"
#include "ort_api.h"

const char runtime_name[] = "onnxruntime";

struct Program {
    const char *path;
    OrtSession *session;
    const char *input_name, *output_name;
    void *data;
    size_t bytes;
    OrtValue *input, *output;
};

static const OrtApi *ort;

static void check(OrtStatus *status, const char *path, const char *what) {
    if (status != NULL)
        fail("ONNX Runtime cannot %s %s: %.600s", what, path, ort->GetErrorMessage(status));
}

static OrtEnv *the_environment(const char *path) {
    static OrtEnv *environment;
    if (environment == NULL) {
        ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
        if (ort == NULL)
            fail("ONNX Runtime has no interface of version %d", ORT_API_VERSION);
        check(ort->CreateEnv(ORT_LOGGING_FATAL, "runner", &environment), path, "start for");
    }
    return environment;
}

static OrtSession *open_session(const char *path, int threads) {
    OrtEnv *environment = the_environment(path);
    OrtSessionOptions *options;
    OrtSession *session;
    check(ort->CreateSessionOptions(&options), path, "make options for");
    check(ort->SetIntraOpNumThreads(options, threads), path, "set the threads of");
    check(ort->SetInterOpNumThreads(options, 1), path, "set the threads of");
    /* A thread that spins between operators takes the core from whatever else runs. */
    check(ort->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"), path, "set the threads of");
    check(ort->CreateSession(environment, path, options, &session), path, "load");
    return session;
}

/* Writes the sizes of a tensor; its element type is returned, 0 for what is no tensor of at most MAX_RANK axes. */
static int read_type(const Program *program, OrtTypeInfo *info, TensorType *type) {
    const OrtTensorTypeAndShapeInfo *tensor;
    int element;
    size_t rank;
    check(ort->CastTypeInfoToTensorInfo(info, &tensor), program->path, "tell the shapes of");
    if (tensor == NULL)
        return 0;
    check(ort->GetTensorElementType(tensor, &element), program->path, "tell the shapes of");
    check(ort->GetDimensionsCount(tensor, &rank), program->path, "tell the shapes of");
    if (rank > MAX_RANK)
        return 0;
    check(ort->GetDimensions(tensor, type->sizes, rank), program->path, "tell the shapes of");
    type->rank = (int)rank;
    return element;
}

static void make_input(Program *program, const TensorType *type) {
    OrtMemoryInfo *memory;
    program->bytes = type->dtype == FLOAT32 ? sizeof(float) : 1;
    for (int i = 0; i < type->rank; i++) {
        if (type->sizes[i] <= 0)
            fail("%s does not take an input of a fixed size", program->path);
        program->bytes *= (size_t)type->sizes[i];
    }
    program->data = malloc(program->bytes);
    if (program->data == NULL)
        fail("no memory for the input of %s", program->path);
    check(ort->CreateCpuMemoryInfo(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, &memory), program->path, "make the input of");
    check(ort->CreateTensorWithDataAsOrtValue(memory, program->data, program->bytes, type->sizes, (size_t)type->rank,
                                              type->dtype == FLOAT32 ? ORT_FLOAT : ORT_UINT8, &program->input),
          program->path, "make the input of");
}

Program *load_program(const char *path, int threads, TensorType *input) {
    size_t inputs, outputs;
    OrtTypeInfo *entry, *result;
    OrtAllocator *allocator;
    TensorType given;
    char *input_name, *output_name;
    Program *program = calloc(1, sizeof *program);
    if (program == NULL)
        fail("no memory for %s", path);
    program->path = path;
    program->session = open_session(path, threads);
    check(ort->SessionGetInputCount(program->session, &inputs), path, "read");
    check(ort->SessionGetOutputCount(program->session, &outputs), path, "read");
    if (inputs != 1 || outputs != 1)
        fail("%s does not take one input and give one output", path);
    check(ort->GetAllocatorWithDefaultOptions(&allocator), path, "read");
    check(ort->SessionGetInputName(program->session, 0, allocator, &input_name), path, "read");
    check(ort->SessionGetOutputName(program->session, 0, allocator, &output_name), path, "read");
    program->input_name = input_name;
    program->output_name = output_name;
    check(ort->SessionGetInputTypeInfo(program->session, 0, &entry), path, "read");
    check(ort->SessionGetOutputTypeInfo(program->session, 0, &result), path, "read");
    int element = read_type(program, entry, input);
    if ((element != ORT_FLOAT && element != ORT_UINT8) || read_type(program, result, &given) != ORT_FLOAT)
        fail("%s does not take float32 or uint8 and give float32", path);
    input->dtype = element == ORT_FLOAT ? FLOAT32 : UINT8;
    make_input(program, input);
    return program;
}

void write_input(Program *program, const void *data, size_t bytes) {
    if (bytes != program->bytes)
        fail("the input of %s has %zu bytes, not %zu", program->path, program->bytes, bytes);
    memcpy(program->data, data, bytes);
}

void run_program(Program *program) {
    const OrtValue *input = program->input;
    /* The first run makes the output, the others write to it. */
    check(ort->Run(program->session, NULL, &program->input_name, &input, 1, &program->output_name, 1, &program->output),
          program->path, "run");
}

const float *read_output(Program *program, size_t *count) {
    OrtTensorTypeAndShapeInfo *info;
    void *data;
    check(ort->GetTensorTypeAndShape(program->output, &info), program->path, "read the output of");
    check(ort->GetTensorShapeElementCount(info, count), program->path, "read the output of");
    check(ort->GetTensorMutableData(program->output, &data), program->path, "read the output of");
    return data;
}
