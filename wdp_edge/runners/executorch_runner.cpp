/* Runs .pte files with ExecuTorch: see contract.h. Built from the headers and libraries in ExecuTorch's wheel. */
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <cstring>
#include <vector>

#include "contract.h"

/* The wheel has this class in libexecutorch_threadpool.so, but not its header. */
namespace executorch::extension::threadpool {
class ThreadPool {
public:
    bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool *get_threadpool();
} // namespace executorch::extension::threadpool

using executorch::aten::ScalarType;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;

static const char METHOD[] = "forward";

const char runtime_name[] = "executorch";

struct Program {
    explicit Program(const char *file) : path(file), module(file) {}

    const char *path;
    Module module;
    std::vector<uint8_t> data;
    TensorPtr tensor;
    std::vector<EValue> inputs, outputs;
};

Program *load_program(const char *path, int threads, TensorType *input) {
    executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(static_cast<uint32_t>(threads));
    auto *program = new Program(path);
    Module &module = program->module;
    if (module.load(executorch::runtime::Program::Verification::InternalConsistency) != Error::Ok ||
        module.load_method(METHOD) != Error::Ok)
        fail("ExecuTorch cannot load %s", path);
    auto meta = module.method_meta(METHOD);
    if (!meta.ok() || meta->num_inputs() != 1 || meta->num_outputs() != 1)
        fail("%s does not take one input and give one output", path);
    auto about = meta->input_tensor_meta(0);
    auto result = meta->output_tensor_meta(0);
    if (!about.ok() || !result.ok() || result->scalar_type() != ScalarType::Float || about->sizes().size() > MAX_RANK ||
        (about->scalar_type() != ScalarType::Float && about->scalar_type() != ScalarType::Byte))
        fail("%s does not take float32 or uint8 and give float32", path);

    std::vector<executorch::aten::SizesType> sizes(about->sizes().begin(), about->sizes().end());
    input->dtype = about->scalar_type() == ScalarType::Float ? FLOAT32 : UINT8;
    input->rank = static_cast<int>(sizes.size());
    for (size_t i = 0; i < sizes.size(); i++)
        input->sizes[i] = sizes[i];
    program->data.resize(about->nbytes());
    program->tensor = executorch::extension::from_blob(program->data.data(), sizes, about->scalar_type());
    program->inputs.emplace_back(*program->tensor);
    return program;
}

void write_input(Program *program, const void *data, size_t bytes) {
    if (bytes != program->data.size())
        fail("the input of %s has %zu bytes, not %zu", program->path, program->data.size(), bytes);
    std::memcpy(program->data.data(), data, bytes);
}

void run_program(Program *program) {
    auto result = program->module.execute(METHOD, program->inputs);
    if (!result.ok())
        fail("ExecuTorch cannot run %s", program->path);
    program->outputs = std::move(*result);
}

const float *read_output(Program *program, size_t *count) {
    const auto &tensor = program->outputs[0].toTensor();
    *count = static_cast<size_t>(tensor.numel());
    return tensor.const_data_ptr<float>();
}
