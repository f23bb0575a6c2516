using SieveAttention.Interop;

namespace SieveAttention.Cli.Commands;

/// <summary>The kernels compiled into the native library.</summary>
internal static class KernelList
{
    /// <summary>One line for each kernel; none where there is no library.</summary>
    public static unsafe IReadOnlyList<string> Read()
    {
        List<string> kernels = [];
        if (!NativeLoader.TryEnsureLoaded(out _))
        {
            return kernels;
        }
        int count = 0;
        NativeStatus.Check(SieveNative.KernelCount(&count), "sieve_kernel_count");
        for (int index = 0; index < count; index++)
        {
            SieveKernelInfo info = new() { struct_size = (uint)sizeof(SieveKernelInfo) };
            NativeStatus.Check(SieveNative.KernelDescribe(index, &info), "sieve_kernel_describe");
            kernels.Add(
                $"{(AttentionOperation)info.operation} {(AttentionDirection)info.direction}, path {(SievePath)info.path}, "
                + $"{(SieveDtype)info.dtype}, head_dim {info.head_dim}, value_dim {info.value_dim}, "
                + $"compute capability >= {info.capability / 10}.{info.capability % 10}");
        }
        return kernels;
    }
}
