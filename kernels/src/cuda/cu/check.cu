// Proof that a device loads our code, computes and answers. Health asks for it.
// Must not know: models; what the other kernels do.

// out[i] = in[i] * 3 + i, in unsigned arithmetic: nothing that a device at rest would hold by chance.
extern "C" __global__ void check(const unsigned* in, unsigned count, unsigned* out) {
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        out[index] = in[index] * 3u + index;
    }
}
