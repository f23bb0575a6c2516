using System.Numerics;

namespace SieveAttention;

/// <summary>Between the tensors of the public interface and the arrays of the host implementations.</summary>
internal static class HostTensors
{
    internal static HostArray<T>? ReadOptional<T>(AttentionTensor? tensor)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        return tensor is null ? null : HostArray<T>.Read(tensor);
    }

    /// <summary>A new tensor in the precision of a device that computes in host memory.</summary>
    internal static AttentionTensor Allocate(AttentionDevice device, TensorShape shape) =>
        AttentionTensor.Allocate(device.Kind == AttentionDeviceKind.Reference ? TensorType.Float64 : TensorType.Float32, shape);

    /// <summary>Wraps an array, without copying it.</summary>
    internal static AttentionTensor Wrap<T>(HostArray<T> array)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        return AttentionTensor.From<T>(array.Data, array.Shape);
    }

    internal static AttentionTensor? WrapOptional<T>(HostArray<T>? array)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        return array is null ? null : Wrap(array);
    }

    /// <summary>One value a channel as a tensor, without copying.</summary>
    internal static AttentionTensor? WrapChannels<T>(T[]? values)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        return values is null ? null : AttentionTensor.From<T>(values, new TensorShape(1, 1, 1, values.Length));
    }

    /// <summary>Writes one value a row.</summary>
    internal static void Write<T>(T[] values, AttentionTensor target)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        HostArray<T> rows = new(target.Shape);
        values.CopyTo(rows.Data, 0);
        rows.WriteTo(target);
    }

    /// <summary>Writes one integer a row.</summary>
    internal static void Write(int[] counts, AttentionTensor target)
    {
        ElementConversion.Copy<int>(
            counts, TensorStrides.Contiguous(target.Shape), target.Shape, target.WritableHostElements<int>(), target.Strides);
    }
}
