using System.Globalization;

namespace SieveAttention.Cli.Cases;

/// <summary>Tensors that a device computed for a case, as they are stored in a result file, and how long it took.</summary>
/// <param name="Tensors">F64 from the reference, F32 from other devices, I32 for counts.</param>
/// <param name="Time">Time of one pass: host time, or device time on a GPU.</param>
internal sealed record CaseResult(IReadOnlyList<StoredTensor> Tensors, TimeSpan Time)
{
    /// <summary>The tensor of a name, or null.</summary>
    public StoredTensor? Find(string name) => Tensors.FirstOrDefault(tensor => tensor.Name == name);

    /// <summary>Copies a tensor of an operator into the form of a result file.</summary>
    /// <param name="name">Its name there.</param>
    /// <param name="tensor">The tensor, in any memory.</param>
    /// <param name="shape">Its shape there, with as many elements.</param>
    /// <param name="device">Where it was computed.</param>
    public static StoredTensor Store(string name, AttentionTensor tensor, IReadOnlyList<int> shape, AttentionDevice device)
    {
        using AttentionTensor host = tensor.ToHost();
        if (host.Type == TensorType.Int32)
        {
            return new StoredTensor(name, shape, host.AsSpan<int>().ToArray());
        }
        return device.Kind == AttentionDeviceKind.Reference
            ? new StoredTensor(name, shape, HostArray<double>.Read(host).Data)
            : new StoredTensor(name, shape, HostArray<float>.Read(host).Data);
    }

    /// <summary>A scalar in the form of a result file: shape [1].</summary>
    public static StoredTensor Store(string name, double value, AttentionDevice device) =>
        device.Kind == AttentionDeviceKind.Reference
            ? new StoredTensor(name, [1], new[] { value })
            : new StoredTensor(name, [1], new[] { (float)value });

    /// <summary>Numbers in the form of a result file: shape [count].</summary>
    public static StoredTensor Store(string name, IReadOnlyList<double> values, AttentionDevice device) =>
        device.Kind == AttentionDeviceKind.Reference
            ? new StoredTensor(name, [values.Count], values.ToArray())
            : new StoredTensor(name, [values.Count], values.Select(value => (float)value).ToArray());

    /// <summary>Mean and largest of counts, and the rows where they are 0, as text.</summary>
    public static string DescribeCounts(StoredTensor counts)
    {
        int[] values = (int[])counts.Values;
        string mean = values.Average().ToString("0.###", CultureInfo.InvariantCulture);
        string none = (100.0 * values.Count(value => value == 0) / values.Length).ToString("0.#", CultureInfo.InvariantCulture);
        return $"{counts.Name} {mean} a row (largest {values.Max()}, none in {none} % of rows)";
    }
}
