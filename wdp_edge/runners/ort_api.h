/* What is used of ONNX Runtime's C interface; its wheel has the library but not onnxruntime_c_api.h.
 *
 * The interface is a table of functions whose order never changes, so the places of those in between are counted.
 * tests/runners checks the places of what it can by calling them. */
#ifndef WDP_ORT_API_H
#define WDP_ORT_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 5 /* the first with AddSessionConfigEntry */

typedef struct OrtStatus OrtStatus; /* NULL is success */
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;

enum { ORT_LOGGING_FATAL = 4 };
enum { ORT_FLOAT = 1, ORT_UINT8 = 2 };
enum { ORT_ARENA_ALLOCATOR = 1 };
enum { ORT_MEMORY_DEFAULT = 0 };

#define UNUSED(from, to) void *unused_##from[(to) - (from) + 1]

typedef struct {
    UNUSED(0, 1);
    /*   2 */ const char *(*GetErrorMessage)(const OrtStatus *status);
    /*   3 */ OrtStatus *(*CreateEnv)(int logging, const char *name, OrtEnv **env);
    UNUSED(4, 6);
    /*   7 */ OrtStatus *(*CreateSession)(const OrtEnv *env, const char *path, const OrtSessionOptions *options,
                                          OrtSession **session);
    UNUSED(8, 8);
    /*   9 */ OrtStatus *(*Run)(OrtSession *session, const OrtRunOptions *options, const char *const *input_names,
                                const OrtValue *const *inputs, size_t input_count, const char *const *output_names,
                                size_t output_count, OrtValue **outputs);
    /*  10 */ OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **options);
    UNUSED(11, 23);
    /*  24 */ OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *options, int threads);
    /*  25 */ OrtStatus *(*SetInterOpNumThreads)(OrtSessionOptions *options, int threads);
    UNUSED(26, 29);
    /*  30 */ OrtStatus *(*SessionGetInputCount)(const OrtSession *session, size_t *count);
    /*  31 */ OrtStatus *(*SessionGetOutputCount)(const OrtSession *session, size_t *count);
    UNUSED(32, 32);
    /*  33 */ OrtStatus *(*SessionGetInputTypeInfo)(const OrtSession *session, size_t index, OrtTypeInfo **info);
    /*  34 */ OrtStatus *(*SessionGetOutputTypeInfo)(const OrtSession *session, size_t index, OrtTypeInfo **info);
    UNUSED(35, 35);
    /*  36 */ OrtStatus *(*SessionGetInputName)(const OrtSession *session, size_t index, OrtAllocator *allocator,
                                                char **name);
    /*  37 */ OrtStatus *(*SessionGetOutputName)(const OrtSession *session, size_t index, OrtAllocator *allocator,
                                                 char **name);
    UNUSED(38, 48);
    /*  49 */ OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *info, void *data, size_t bytes,
                                                           const int64_t *sizes, size_t rank, int type,
                                                           OrtValue **value);
    UNUSED(50, 50);
    /*  51 */ OrtStatus *(*GetTensorMutableData)(OrtValue *value, void **data);
    UNUSED(52, 54);
    /*  55 */ OrtStatus *(*CastTypeInfoToTensorInfo)(const OrtTypeInfo *info, const OrtTensorTypeAndShapeInfo **tensor);
    UNUSED(56, 59);
    /*  60 */ OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *info, int *type);
    /*  61 */ OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *info, size_t *count);
    /*  62 */ OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *info, int64_t *sizes, size_t count);
    UNUSED(63, 63);
    /*  64 */ OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *info, size_t *count);
    /*  65 */ OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *value, OrtTensorTypeAndShapeInfo **info);
    UNUSED(66, 68);
    /*  69 */ OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **info);
    UNUSED(70, 77);
    /*  78 */ OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **allocator);
    UNUSED(79, 129);
    /* 130 */ OrtStatus *(*AddSessionConfigEntry)(OrtSessionOptions *options, const char *key, const char *value);
} OrtApi;

typedef struct {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);

_Static_assert(offsetof(OrtApi, AddSessionConfigEntry) == 130 * sizeof(void *), "the table's places are miscounted");

#endif
