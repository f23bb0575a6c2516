using System.Numerics;

namespace SieveAttention;

/// <summary>
/// A dense [batch, heads, rows, channels] array in host memory: what the Reference device (double) and the Cpu device (float)
/// compute on. Not a view; made from tensors by <see cref="Read"/> and rounded into them by <see cref="WriteTo"/>.
/// </summary>
internal sealed class HostArray<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    internal HostArray(TensorShape shape)
    {
        long count = shape.Count;
        if (count > Array.MaxLength)
        {
            throw new NotSupportedException(
                $"A tensor of shape {shape} has {count} elements; host computation takes at most {Array.MaxLength}. " +
                "Split the batch or the heads into several calls.");
        }

        Shape = shape;
        Data = new T[count];
    }

    internal TensorShape Shape { get; }

    /// <summary>All elements, row-major.</summary>
    internal T[] Data { get; }

    /// <summary>The elements of one row.</summary>
    internal Span<T> Row(int batch, int head, int row) =>
        Data.AsSpan(((((batch * Shape.Heads) + head) * Shape.Rows) + row) * Shape.Channels, Shape.Channels);

    /// <summary>All rows of one head.</summary>
    internal Span<T> Head(int batch, int head) =>
        Data.AsSpan(((batch * Shape.Heads) + head) * Shape.Rows * Shape.Channels, Shape.Rows * Shape.Channels);

    /// <summary>Copies a host tensor of any floating-point type and any strides.</summary>
    internal static HostArray<T> Read(AttentionTensor tensor)
    {
        HostArray<T> array = new(tensor.Shape);
        switch (tensor.Type)
        {
            case TensorType.Float64:
                ElementConversion.Gather(tensor.HostElements<double>(), tensor.Strides, array.Shape, array.Data.AsSpan());
                break;
            case TensorType.Float32:
                ElementConversion.Gather(tensor.HostElements<float>(), tensor.Strides, array.Shape, array.Data.AsSpan());
                break;
            case TensorType.Float16:
                ElementConversion.Gather(tensor.HostElements<Half>(), tensor.Strides, array.Shape, array.Data.AsSpan());
                break;
            case TensorType.BFloat16:
                ElementConversion.Gather(tensor.HostElements<BFloat16>(), tensor.Strides, array.Shape, array.Data.AsSpan());
                break;
            default:
                throw NotFloat(tensor);
        }

        return array;
    }

    /// <summary>Rounds the elements once, to nearest, to the type of a host tensor of the same shape and any strides.</summary>
    internal void WriteTo(AttentionTensor tensor)
    {
        if (tensor.Shape != Shape)
        {
            throw new ArgumentException($"The target has shape {tensor.Shape}; the result has {Shape}.", nameof(tensor));
        }

        switch (tensor.Type)
        {
            case TensorType.Float64:
                ElementConversion.Scatter(Data, Shape, tensor.WritableHostElements<double>(), tensor.Strides);
                break;
            case TensorType.Float32:
                ElementConversion.Scatter(Data, Shape, tensor.WritableHostElements<float>(), tensor.Strides);
                break;
            case TensorType.Float16:
                ElementConversion.Scatter(Data, Shape, tensor.WritableHostElements<Half>(), tensor.Strides);
                break;
            case TensorType.BFloat16:
                ElementConversion.Scatter(Data, Shape, tensor.WritableHostElements<BFloat16>(), tensor.Strides);
                break;
            default:
                throw NotFloat(tensor);
        }
    }

    private static ArgumentException NotFloat(AttentionTensor tensor) => new(
        $"A tensor of type {TensorTypes.Name(tensor.Type)} was given; use Float64, Float32, Float16 or BFloat16.", nameof(tensor));
}
