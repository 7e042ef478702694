// cuBLAS's interface with a plain loop behind it, to prove whoever calls it. Column-major, as it is.
//
// Arguments are refused as the library refuses them. It is stricter in one thing: a product without a workspace fails,
// because the library would allocate one, which it cannot while a stream is captured.
// With -DWITH_HEADER the signatures are checked against NVIDIA's own header.
#ifdef WITH_HEADER
#include <cublas_v2.h>
#else
#include "cuda_on_cpu.h"
typedef int cublasStatus_t, cublasOperation_t, cudaDataType, cublasComputeType_t, cublasGemmAlgo_t, cublasMath_t;
typedef int libraryPropertyType;
typedef struct cublasContext* cublasHandle_t;
typedef void* cudaStream_t;
#define CUBLASWINAPI
#endif
#include <cstddef>
#include <cstring>
#include <vector>

#define STATUS(number) ((cublasStatus_t)(number))
enum { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { F32 = 0, F64 = 1, F16 = 2, BF16 = 14, COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_TF32 = 77 };

enum { NO_REDUCED_PRECISION = 16 };
#ifdef WITH_HEADER
static_assert((int)CUBLAS_STATUS_SUCCESS == SUCCESS && (int)CUBLAS_STATUS_NOT_INITIALIZED == NOT_INITIALIZED);
static_assert((int)CUBLAS_STATUS_ALLOC_FAILED == ALLOC_FAILED && (int)CUBLAS_STATUS_INVALID_VALUE == INVALID_VALUE);
static_assert((int)CUBLAS_STATUS_NOT_SUPPORTED == NOT_SUPPORTED && (int)CUBLAS_GEMM_DEFAULT == -1);
static_assert((int)CUDA_R_32F == F32 && (int)CUDA_R_64F == F64 && (int)CUDA_R_16F == F16 && (int)CUDA_R_16BF == BF16);
static_assert((int)CUBLAS_COMPUTE_32F == COMPUTE_32F && (int)CUBLAS_COMPUTE_64F == COMPUTE_64F);
static_assert((int)CUBLAS_COMPUTE_32F_FAST_TF32 == COMPUTE_TF32 && (int)CUBLAS_OP_N == 0 && (int)CUBLAS_OP_T == 1);
static_assert((int)CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION == NO_REDUCED_PRECISION);
static_assert((int)CUBLAS_DEFAULT_MATH == 0);
#endif

struct cublasContext { bool has_workspace = false; };

static bool is_handle(cublasHandle_t handle) { return handle != nullptr; }

static bool computes(int a, int b, int c, int compute) {
    if (a != b) return false;
    if (a == F64) return c == F64 && compute == COMPUTE_64F;
    if (a == F32) return c == F32 && (compute == COMPUTE_32F || compute == COMPUTE_TF32);
    return (a == F16 || a == BF16) && (c == a || c == F32) && compute == COMPUTE_32F;
}

static size_t size_of(int kind) { return kind == F64 ? 8 : kind == F32 ? 4 : 2; }

static double element(const void* array, int kind, long long i) {
    if (kind == F64) return ((const double*)array)[i];
    if (kind == F32) return ((const float*)array)[i];
    if (kind == F16) return __half2float(((const __half*)array)[i]);
    return __bfloat162float(((const __nv_bfloat16*)array)[i]);
}

static void put(void* array, int kind, long long i, double x) {
    if (kind == F64) ((double*)array)[i] = x;
    else if (kind == F32) ((float*)array)[i] = (float)x;
    else if (kind == F16) ((__half*)array)[i] = __float2half((float)x);
    else ((__nv_bfloat16*)array)[i] = __float2bfloat16((float)x);
}

static double scalar(const void* p, int compute) { return compute == COMPUTE_64F ? *(const double*)p : *(const float*)p; }

static float to_tf32(float x) {  // ten bits of mantissa, to nearest
    unsigned bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x0fffu + (bits >> 13 & 1)) & ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
}

// Sums are taken in SUM, in the order of k.
template <class SUM>
static void product(bool ta, bool tb, int m, int n, int k, double alpha, const void* A, int kind, int lda, const void* B,
                    int ldb, double beta, void* C, int result, int ldc, bool tf32) {
    std::vector<SUM> a((size_t)m * k), sums(m);
    for (int x = 0; x < k; x++)
        for (int i = 0; i < m; i++) {
            SUM value = (SUM)element(A, kind, ta ? x + (long long)i * lda : i + (long long)x * lda);
            a[(size_t)x * m + i] = tf32 ? (SUM)to_tf32((float)value) : value;
        }
    for (int j = 0; j < n; j++) {
        std::fill(sums.begin(), sums.end(), SUM(0));
        for (int x = 0; x < k; x++) {
            SUM b = (SUM)element(B, kind, tb ? j + (long long)x * ldb : x + (long long)j * ldb);
            if (tf32) b = (SUM)to_tf32((float)b);
            const SUM* column = &a[(size_t)x * m];
            for (int i = 0; i < m; i++) sums[i] += column[i] * b;
        }
        for (int i = 0; i < m; i++) {
            long long place = i + (long long)j * ldc;
            double old = beta ? beta * element(C, result, place) : 0;  // with beta 0 what was there is not read
            put(C, result, place, alpha * sums[i] + old);
        }
    }
}

#pragma GCC visibility push(default)
extern "C" {

cublasStatus_t CUBLASWINAPI cublasGetProperty(libraryPropertyType part, int* value) {
    *value = 13 - (int)part;  // 13.12.11
    return STATUS(SUCCESS);
}

cublasStatus_t CUBLASWINAPI cublasCreate_v2(cublasHandle_t* handle) {
    *handle = new cublasContext;
    return STATUS(SUCCESS);
}

cublasStatus_t CUBLASWINAPI cublasSetStream_v2(cublasHandle_t handle, cudaStream_t) {
    if (!is_handle(handle)) return STATUS(NOT_INITIALIZED);
    handle->has_workspace = false;  // as documented
    return STATUS(SUCCESS);
}

cublasStatus_t CUBLASWINAPI cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes) {
    if (!is_handle(handle)) return STATUS(NOT_INITIALIZED);
    if (!workspace || !bytes) return STATUS(INVALID_VALUE);
    handle->has_workspace = true;
    return STATUS(SUCCESS);
}

cublasStatus_t CUBLASWINAPI cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    return STATUS(!is_handle(handle) ? NOT_INITIALIZED : (int)mode & ~(NO_REDUCED_PRECISION | 3) ? INVALID_VALUE : SUCCESS);
}

cublasStatus_t CUBLASWINAPI cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const void* alpha,
    const void* A, cudaDataType at, int lda, long long apart_a, const void* B, cudaDataType bt, int ldb,
    long long apart_b, const void* beta, void* C, cudaDataType ct, int ldc, long long apart_c, int batch,
    cublasComputeType_t compute, cublasGemmAlgo_t)
{
    if (!is_handle(handle)) return STATUS(NOT_INITIALIZED);
    if (m < 0 || n < 0 || k < 0 || batch < 0 || (int)ta > 1 || (int)tb > 1) return STATUS(INVALID_VALUE);
    if (lda < std::max(1, (int)ta ? k : m) || ldb < std::max(1, (int)tb ? n : k) || ldc < std::max(1, m))
        return STATUS(INVALID_VALUE);
    if (!alpha || !beta || !A || !B || !C) return STATUS(INVALID_VALUE);
    if (!computes((int)at, (int)bt, (int)ct, (int)compute)) return STATUS(NOT_SUPPORTED);
    if (!handle->has_workspace) return STATUS(ALLOC_FAILED);
    const double by = scalar(alpha, (int)compute), keep = scalar(beta, (int)compute);
    for (int i = 0; i < batch; i++) {
        const char* a = (const char*)A + i * apart_a * (long long)size_of((int)at);
        const char* b = (const char*)B + i * apart_b * (long long)size_of((int)bt);
        char* c = (char*)C + i * apart_c * (long long)size_of((int)ct);
        auto multiply = (int)compute == COMPUTE_64F ? product<double> : product<float>;
        multiply((int)ta, (int)tb, m, n, k, by, a, (int)at, lda, b, ldb, keep, c, (int)ct, ldc,
                 (int)compute == COMPUTE_TF32);
    }
    return STATUS(SUCCESS);
}

cublasStatus_t CUBLASWINAPI cublasGemmEx(
    cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const void* alpha,
    const void* A, cudaDataType at, int lda, const void* B, cudaDataType bt, int ldb, const void* beta, void* C,
    cudaDataType ct, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t algorithm)
{
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, A, at, lda, 0, B, bt, ldb, 0, beta, C, ct, ldc, 0,
                                      1, compute, algorithm);
}

}
#pragma GCC visibility pop
