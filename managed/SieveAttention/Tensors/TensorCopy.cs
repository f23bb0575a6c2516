using System.Buffers;
using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>Copies between two tensors of the same type and shape, wherever they are.</summary>
internal static class TensorCopy
{
    internal static void Run(AttentionTensor source, AttentionTensor target, AttentionStream? stream)
    {
        if (source.IsOnHost && target.IsOnHost)
        {
            OnHost(source, target);
            return;
        }

        CudaDevice device = target.Storage.Device ?? source.Storage.Device!;
        if (!source.IsOnHost && !target.IsOnHost && source.Storage.Device!.Ordinal != device.Ordinal)
        {
            throw new NotSupportedException(
                $"The source is on {source.Device!.Name} and the target on {device.Name}; copy through host memory with ToHost and To.");
        }

        SieveCopyKind kind = source.IsOnHost ? SieveCopyKind.ToDevice : target.IsOnHost ? SieveCopyKind.ToHost : SieveCopyKind.OnDevice;
        using Address from = new(source);
        using Address to = new(target);
        Runs(source, target, (sourceOffset, targetOffset, bytes) =>
            device.Copy(to.Pointer + targetOffset, from.Pointer + sourceOffset, bytes, kind, stream));
    }

    private static void OnHost(AttentionTensor source, AttentionTensor target)
    {
        switch (source.Type)
        {
            case TensorType.Float64:
                OnHost<double>(source, target);
                break;
            case TensorType.Float32:
                OnHost<float>(source, target);
                break;
            case TensorType.Float16:
                OnHost<Half>(source, target);
                break;
            case TensorType.BFloat16:
                OnHost<BFloat16>(source, target);
                break;
            default:
                OnHost<int>(source, target);
                break;
        }
    }

    private static void OnHost<T>(AttentionTensor source, AttentionTensor target)
        where T : unmanaged
    {
        ElementConversion.Copy(
            source.HostElements<T>(), source.Strides, source.Shape, target.WritableHostElements<T>(), target.Strides);
    }

    /// <summary>
    /// Calls copy(source byte offset, target byte offset, bytes) for each longest run that is dense in both, whatever the order of the
    /// dimensions in memory.
    /// </summary>
    private static void Runs(AttentionTensor source, AttentionTensor target, Action<nint, nint, ulong> copy)
    {
        TensorShape shape = source.Shape;
        TensorStrides from = source.Strides;
        TensorStrides to = target.Strides;
        long run = 1;
        TensorShape outer = shape;
        for (bool grown = true; grown;)
        {
            grown = false;
            for (int d = 3; d >= 0; d--)
            {
                if (outer[d] > 1 && from[d] == run && to[d] == run)
                {
                    run *= outer[d];
                    outer = outer.With(d, 1);
                    grown = true;
                }
            }
        }

        int size = TensorTypes.Size(source.Type);
        for (int b = 0; b < outer.Batch; b++)
        {
            for (int h = 0; h < outer.Heads; h++)
            {
                for (int r = 0; r < outer.Rows; r++)
                {
                    for (int c = 0; c < outer.Channels; c++)
                    {
                        copy((nint)(from.Offset(b, h, r, c) * size), (nint)(to.Offset(b, h, r, c) * size), (ulong)(run * size));
                    }
                }
            }
        }
    }

    /// <summary>Address of a tensor's first element, kept valid until disposed.</summary>
    private readonly struct Address : IDisposable
    {
        private readonly TensorStorage _storage;
        private readonly MemoryHandle _pin;

        internal unsafe Address(AttentionTensor tensor)
        {
            _storage = tensor.Storage;
            ObjectDisposedException.ThrowIf(!_storage.TryRetain(), tensor);
            if (_storage is HostStorage host)
            {
                _pin = host.Pin();
                Pointer = (nint)_pin.Pointer + (nint)(tensor.Offset * TensorTypes.Size(tensor.Type));
            }
            else
            {
                Pointer = tensor.DevicePointer;
            }
        }

        internal nint Pointer { get; }

        public void Dispose()
        {
            _pin.Dispose();
            _storage.Release();
        }
    }
}
