using System.Runtime.InteropServices;
using NUnit.Framework;

namespace SieveAttention.Tests.Support;

/// <summary>Device memory as tests of kernels look at it: poisoned before a launch, downloaded after it.</summary>
internal static class DeviceMemory
{
    /// <summary>A dense tensor with all bits set, which is NaN in every floating-point type.</summary>
    public static AttentionTensor Poisoned(CudaDevice device, TensorType type, TensorShape shape)
    {
        AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
        Poison(tensor);
        return tensor;
    }

    /// <summary>Sets all bits of a dense tensor.</summary>
    public static void Poison(AttentionTensor tensor, AttentionStream? stream = null) => ((CudaDevice)tensor.Device!).Fill(
        tensor.DevicePointer, 0xFF, (ulong)(tensor.Shape.Count * TensorTypes.Size(tensor.Type)), stream);

    public static double[] Download(AttentionTensor tensor, AttentionStream? stream = null)
    {
        using AttentionTensor host = tensor.ToHost(stream);
        return Values.Doubles(host);
    }

    /// <summary>The bits of a tensor of any type.</summary>
    public static byte[] Bits(AttentionTensor tensor, AttentionStream? stream = null)
    {
        using AttentionTensor host = tensor.ToHost(stream);
        return host.Type switch
        {
            TensorType.BFloat16 => MemoryMarshal.AsBytes(host.AsSpan<BFloat16>()).ToArray(),
            TensorType.Float16 => MemoryMarshal.AsBytes(host.AsSpan<Half>()).ToArray(),
            TensorType.Float32 => MemoryMarshal.AsBytes(host.AsSpan<float>()).ToArray(),
            _ => MemoryMarshal.AsBytes(host.AsSpan<int>()).ToArray(),
        };
    }

    /// <summary>
    /// A poisoned tensor around an inner one, with guards of rows and channels; channel guards keep 16-byte alignment.
    /// </summary>
    internal sealed class Guarded : IDisposable
    {
        private const int GuardRows = 2;

        private readonly AttentionTensor _whole;
        private readonly int _guardChannels;

        public Guarded(CudaDevice device, TensorType type, TensorShape shape)
        {
            _guardChannels = shape.Channels == 1 ? 1 : 8;
            TensorShape whole = shape with { Rows = shape.Rows + (2 * GuardRows), Channels = shape.Channels + (2 * _guardChannels) };
            _whole = Poisoned(device, type, whole);
            using AttentionTensor rows = _whole.Slice(2, GuardRows, shape.Rows);
            Inner = rows.Slice(3, _guardChannels, shape.Channels);
        }

        /// <summary>The tensor to write.</summary>
        public AttentionTensor Inner { get; }

        /// <summary>Every element inside was written, and none around it.</summary>
        public void AssertWritten(string what)
        {
            byte[] bits = Bits(_whole);
            int size = TensorTypes.Size(_whole.Type);
            int width = _whole.Shape.Channels;
            for (int element = 0; element < bits.Length / size; element++)
            {
                int row = element / width % _whole.Shape.Rows;
                int channel = element % width;
                bool inside = row >= GuardRows && row < _whole.Shape.Rows - GuardRows
                    && channel >= _guardChannels && channel < width - _guardChannels;
                bool poisoned = bits.AsSpan(element * size, size).IndexOfAnyExcept((byte)0xFF) < 0;
                if (poisoned == inside)
                {
                    Assert.Fail($"{what}: element {element} {(inside ? "was not written" : "is a guard and was written")}");
                }
            }
        }

        public void Dispose()
        {
            Inner.Dispose();
            _whole.Dispose();
        }
    }
}
