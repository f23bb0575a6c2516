namespace SieveAttention.Cli.Cases;

/// <summary>
/// The input tensors of a case, each with the rank-4 shape that operators take. Operands (queries, keys, values) are what a
/// device multiplies, in the type under test, and so is the upstream gradient; the others (gain, gate, row factors) keep their own.
/// </summary>
internal sealed class CaseInputs
{
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);
    private readonly string _file;

    /// <summary>Makes an empty set.</summary>
    /// <param name="file">Name of the case, for messages.</param>
    public CaseInputs(string file)
    {
        _file = file;
    }

    private enum Role
    {
        Operand,
        Gradient,
        Other,
    }

    private sealed record Entry(StoredTensor Tensor, TensorShape Shape, Role Role)
    {
        public bool IsOperand => Role == Role.Operand;
    }

    /// <summary>Names in the order they were added.</summary>
    public IEnumerable<string> Names => _entries.Keys;

    /// <summary>Adds an operand of rank 4.</summary>
    public void AddOperand(StoredTensor tensor) => _entries.Add(tensor.Name, new Entry(tensor, ShapeOf(tensor), Role.Operand));

    /// <summary>Adds an upstream gradient; nothing where it is absent.</summary>
    public void AddGradient(StoredTensor? tensor) => Add(tensor, Role.Gradient);

    /// <summary>Adds another tensor; nothing where it is absent.</summary>
    public void AddOther(StoredTensor? tensor) => Add(tensor, Role.Other);

    /// <summary>Whether the case has the tensor.</summary>
    public bool Has(string name) => _entries.ContainsKey(name);

    /// <summary>The tensor as it stands in the case, or null.</summary>
    public StoredTensor? Find(string name) => _entries.GetValueOrDefault(name)?.Tensor;

    /// <summary>The common type of the operands; null where they differ.</summary>
    public TensorType? OperandType()
    {
        List<TensorType> types = [.. _entries.Values.Where(entry => entry.IsOperand).Select(entry => entry.Tensor.Type).Distinct()];
        return types.Count == 1 ? types[0] : null;
    }

    /// <summary>The types of the operands as text, such as <c>F32</c> or <c>F32, BF16</c>.</summary>
    public string OperandTypeNames() => string.Join(
        ", ", _entries.Values.Where(entry => entry.IsOperand).Select(entry => StoredTypes.Name(entry.Tensor.Type)).Distinct());

    /// <summary>Whether <see cref="Rounded"/> to the type would change nothing.</summary>
    public bool AreRounded(TensorType type) =>
        _entries.Values.All(entry => entry.Role == Role.Other || entry.Tensor.Type == type);

    /// <summary>The same inputs with every operand and upstream gradient rounded once to a type.</summary>
    /// <exception cref="CaseException">A finite value is too large for the type.</exception>
    public CaseInputs Rounded(TensorType type)
    {
        CaseInputs result = new(_file);
        foreach ((string name, Entry entry) in _entries)
        {
            result._entries.Add(name, entry.Role == Role.Other ? entry : entry with { Tensor = Round(entry.Tensor, type) });
        }
        return result;
    }

    /// <summary>
    /// A tensor for an operator on a device. On a CUDA device it is a copy in device memory, the upstream gradient in the type of the
    /// operands and other tensors as F32; on the others it views the values of the case.
    /// </summary>
    public AttentionTensor Load(string name, AttentionDevice device)
    {
        Entry entry = _entries[name];
        if (device.Kind != AttentionDeviceKind.Cuda)
        {
            return entry.Tensor.ToAttentionTensor(entry.Shape);
        }
        StoredTensor stored = entry.Role switch
        {
            Role.Operand => entry.Tensor,
            Role.Gradient when OperandType() is { } type => Round(entry.Tensor, type),
            _ => Round(entry.Tensor, TensorType.Float32),
        };
        using AttentionTensor host = stored.ToAttentionTensor(entry.Shape);
        return host.To(device);
    }

    /// <summary>The values as a dense array to compute on.</summary>
    public HostArray<T> Read<T>(string name)
        where T : unmanaged, System.Numerics.IFloatingPointIeee754<T>
    {
        using AttentionTensor tensor = Load(name, AttentionDevice.Reference);
        return HostArray<T>.Read(tensor);
    }

    private void Add(StoredTensor? tensor, Role role)
    {
        if (tensor is not null)
        {
            _entries.Add(tensor.Name, new Entry(tensor, ShapeOf(tensor), role));
        }
    }

    private static TensorShape ShapeOf(StoredTensor tensor) => tensor.Shape switch
    {
        [int batch, int heads, int rows, int channels] => new TensorShape(batch, heads, rows, channels),
        [int rows, int channels] => new TensorShape(1, 1, rows, channels),
        [int batch, int heads, int rows] => new TensorShape(batch, heads, rows, 1),
        [int channels] => new TensorShape(1, 1, 1, channels),
        _ => throw new ArgumentException($"{tensor.Name}: found shape {Text.Shape(tensor.Shape)}; allowed: rank 1 to 4"),
    };

    private StoredTensor Round(StoredTensor tensor, TensorType type)
    {
        if (tensor.Type == type)
        {
            return tensor;
        }
        double[] values = tensor.ToDoubles();
        Array rounded = type switch
        {
            TensorType.Float64 => values,
            TensorType.Float32 => Array.ConvertAll(values, value => (float)value),
            TensorType.Float16 => Array.ConvertAll(values, value => (Half)value),
            TensorType.BFloat16 => Array.ConvertAll(values, value => (BFloat16)value),
            _ => throw new ArgumentOutOfRangeException(nameof(type), type, "allowed: floating-point types"),
        };
        StoredTensor result = new(tensor.Name, tensor.Shape, rounded);
        double[] back = result.ToDoubles();
        int overflow = 0;
        while (overflow < back.Length && double.IsFinite(values[overflow]) == double.IsFinite(back[overflow]))
        {
            overflow++;
        }
        return overflow == back.Length
            ? result
            : throw CaseException.At(
                _file,
                $"tensor {Text.Quote(tensor.Name)}",
                FormattableString.Invariant($"the value {values[overflow]}"),
                $"values that {StoredTypes.Name(type)} can hold");
    }
}
