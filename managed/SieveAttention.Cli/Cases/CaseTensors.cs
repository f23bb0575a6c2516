namespace SieveAttention.Cli.Cases;

/// <summary>
/// The tensors of a case, asked for by name and shape. Afterwards <see cref="RefuseUnknown"/> finds those that nobody asked for.
/// </summary>
internal sealed class CaseTensors(string file, IReadOnlyDictionary<string, StoredTensor> tensors)
{
    private readonly List<string> _known = [];

    /// <summary>A tensor that must be there, of the given rank.</summary>
    /// <param name="name">Name in the file.</param>
    /// <param name="dimensions">The names of its dimensions, for messages; their number is the rank.</param>
    /// <exception cref="CaseException">It is absent, not of a floating-point type, or of another rank.</exception>
    public StoredTensor Required(string name, params IReadOnlyList<string> dimensions)
    {
        string shape = $"[{string.Join(",", dimensions)}]";
        StoredTensor tensor = Find(name) ?? throw CaseException.At(file, Key(name), "no such tensor", $"a tensor of shape {shape}");
        return tensor.Shape.Count == dimensions.Count
            ? tensor
            : throw CaseException.At(file, Key(name), $"shape {Cli.Text.Shape(tensor.Shape)}", $"shape {shape}");
    }

    /// <summary>A tensor that must be there with exactly this shape.</summary>
    public StoredTensor Required(string name, IReadOnlyList<int> shape) =>
        Optional(name, shape) ?? throw CaseException.At(file, Key(name), "no such tensor", $"shape {Cli.Text.Shape(shape)}");

    /// <summary>A tensor that may be absent but has exactly this shape where it is not.</summary>
    public StoredTensor? Optional(string name, IReadOnlyList<int> shape)
    {
        StoredTensor? tensor = Find(name);
        return tensor is null || tensor.Shape.SequenceEqual(shape)
            ? tensor
            : throw CaseException.At(
                file, Key(name), $"shape {Cli.Text.Shape(tensor.Shape)}", $"shape {Cli.Text.Shape(shape)}, from the other tensors");
    }

    /// <summary>Says that a tensor must not be there.</summary>
    public CaseException Refuse(string name, string found, string allowed) => CaseException.At(file, Key(name), found, allowed);

    /// <summary>Refuses tensors that were not asked for.</summary>
    /// <exception cref="CaseException">There is one.</exception>
    public void RefuseUnknown()
    {
        string? unknown = tensors.Keys.Where(name => !_known.Contains(name)).Order(StringComparer.Ordinal).FirstOrDefault();
        if (unknown is not null)
        {
            throw CaseException.At(file, Key(unknown), "a tensor that this operator does not have", string.Join(", ", _known));
        }
    }

    private StoredTensor? Find(string name)
    {
        if (!_known.Contains(name))
        {
            _known.Add(name);
        }
        StoredTensor? tensor = tensors.GetValueOrDefault(name);
        return tensor?.Type != TensorType.Int32
            ? tensor
            : throw CaseException.At(file, $"dtype of {Key(name)}", "I32", "F64, F32, F16, BF16");
    }

    private static string Key(string name) => $"tensor {Cli.Text.Quote(name)}";
}
