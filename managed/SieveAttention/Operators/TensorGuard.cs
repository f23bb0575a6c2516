namespace SieveAttention;

/// <summary>Checks of tensors, shared by all operators. Messages name the tensor, what it is and what it has to be.</summary>
internal static class TensorGuard
{
    /// <summary>An input that a device can read: not disposed, in the right memory, floating-point.</summary>
    internal static void Input(AttentionTensor tensor, string name, AttentionDevice device)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        tensor.ThrowIfDisposed();
        Place(tensor, name, device);
        if (!TensorTypes.IsFloat(tensor.Type))
        {
            throw Guard.Tensor(
                name,
                $"{name} has elements of type {TensorTypes.Name(tensor.Type)}; allowed: Float64, Float32, Float16, BFloat16.");
        }
    }

    /// <summary>Integers that a CUDA device reads as they lie in memory.</summary>
    internal static void Integers(AttentionTensor tensor, string name, AttentionDevice device, TensorShape shape, string axes)
    {
        tensor.ThrowIfDisposed();
        Place(tensor, name, device);
        Shape(tensor, name, shape, axes);
        Type(tensor, name, TensorType.Int32);
        Dense(tensor, name);
    }

    /// <summary>On a CUDA device some tensors are passed as an address only.</summary>
    internal static void Dense(AttentionTensor tensor, string name)
    {
        if (!tensor.IsContiguous)
        {
            throw Guard.Tensor(name, $"{name} has strides {tensor.Strides}; on a GPU its elements have to be dense.");
        }
    }

    /// <summary>An output that a device can write, of one of the given types.</summary>
    internal static void Output(
        AttentionTensor tensor, string name, AttentionDevice device, TensorShape shape, string axes, params ReadOnlySpan<TensorType> types)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        tensor.ThrowIfDisposed();
        Place(tensor, name, device);
        Shape(tensor, name, shape, axes);
        Type(tensor, name, types);
        tensor.ThrowIfNotWritable(name);
    }

    internal static void Shape(AttentionTensor tensor, string name, TensorShape expected, string axes)
    {
        if (tensor.Shape != expected)
        {
            throw Guard.Tensor(name, $"{name} has shape {tensor.Shape}; it has to be {axes} = {expected}.");
        }
    }

    internal static void Type(AttentionTensor tensor, string name, params ReadOnlySpan<TensorType> types)
    {
        if (!types.Contains(tensor.Type))
        {
            List<string> allowed = [];
            foreach (TensorType type in types)
            {
                allowed.Add(TensorTypes.Name(type));
            }

            throw Guard.Tensor(
                name,
                $"{name} has elements of type {TensorTypes.Name(tensor.Type)}; allowed: {string.Join(", ", allowed)}.");
        }
    }

    private static void Place(AttentionTensor tensor, string name, AttentionDevice device)
    {
        if (device is CudaDevice cuda)
        {
            if (tensor.Device is not CudaDevice place || place.Ordinal != cuda.Ordinal)
            {
                throw Guard.Tensor(name, $"{name} is {tensor}; {device.Name} takes tensors in its own memory. Use To(device) first.");
            }
        }
        else if (!tensor.IsOnHost)
        {
            throw Guard.Tensor(name, $"{name} is {tensor}; {device.Name} takes tensors in host memory. Use ToHost() first.");
        }
    }
}
