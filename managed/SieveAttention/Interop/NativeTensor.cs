using System.Runtime.CompilerServices;

namespace SieveAttention.Interop;

/// <summary>Tensors as the native library sees them.</summary>
internal static class NativeTensor
{
    /// <summary>The native element type; null where there is none.</summary>
    internal static SieveDtype? Dtype(TensorType type) => type switch
    {
        TensorType.Float16 => SieveDtype.Float16,
        TensorType.BFloat16 => SieveDtype.Bfloat16,
        TensorType.Float32 => SieveDtype.Float32,
        TensorType.Int32 => SieveDtype.Int32,
        _ => null,
    };
}

/// <summary>
/// Keeps the device memory of the tensors of one native call from being freed before the call has enqueued its work; memory that
/// is freed later waits for that work by itself.
/// </summary>
internal ref struct TensorLeases : IDisposable
{
    private const int Capacity = 24;

    private Storages _storages;
    private int _count;

    /// <summary>The native view of a tensor whose device has been checked; an absent tensor gives data = NULL.</summary>
    internal unsafe SieveTensor Add(AttentionTensor? tensor)
    {
        SieveTensor native = default;
        if (tensor is null)
        {
            return native;
        }

        TensorStorage storage = tensor.Storage;
        ObjectDisposedException.ThrowIf(!storage.TryRetain(), tensor);
        _storages[_count++] = storage;
        native.data = tensor.DevicePointer;
        for (int d = 0; d < 4; d++)
        {
            native.sizes[d] = tensor.Shape[d];
            native.strides[d] = tensor.Strides[d];
        }

        native.dtype = (int)(NativeTensor.Dtype(tensor.Type)
            ?? throw new NotSupportedException($"The tensor is {tensor}; a GPU takes Float16, BFloat16, Float32 and Int32."));
        return native;
    }

    /// <summary>The address of a dense tensor's elements; NULL where it is absent.</summary>
    internal nint AddPointer(AttentionTensor? tensor) => Add(tensor).data;

    public void Dispose()
    {
        while (_count > 0)
        {
            _storages[--_count]!.Release();
        }
    }

    [InlineArray(Capacity)]
    private struct Storages
    {
        private TensorStorage? _first;
    }
}
