using System.Diagnostics.CodeAnalysis;

namespace SieveAttention;

/// <summary>The parts of packed tensors that belong to one sequence, as views; and the way back of what was computed for it.</summary>
internal sealed class PackedViews(PackedSequences packed, int sequence) : IDisposable
{
    private readonly List<AttentionTensor> _views = [];

    /// <summary>Rows of a tensor with one row for each query.</summary>
    [return: NotNullIfNotNull(nameof(tensor))]
    internal AttentionTensor? Queries(AttentionTensor? tensor, string name) =>
        View(tensor, name, packed.Queries(sequence), packed.QueryStarts[^1], "query rows");

    /// <summary>Rows of a tensor with one row for each key.</summary>
    [return: NotNullIfNotNull(nameof(tensor))]
    internal AttentionTensor? Keys(AttentionTensor? tensor, string name) =>
        View(tensor, name, packed.Keys(sequence), packed.KeyStarts[^1], "key rows");

    /// <summary>The part of the tensors of an operator with one view.</summary>
    internal AttentionInputs Inputs(AttentionInputs inputs) => inputs with
    {
        Query = Queries(inputs.Query, nameof(inputs.Query)),
        Key = Keys(inputs.Key, nameof(inputs.Key)),
        Value = Keys(inputs.Value, nameof(inputs.Value)),
        RowFactors = Queries(inputs.RowFactors, nameof(inputs.RowFactors)),
        Gate = Queries(inputs.Gate, nameof(inputs.Gate)),
    };

    /// <summary>Checks what is read of tensors before any sequence is computed.</summary>
    internal static void Check(AttentionDevice device, AttentionTensor query, string queryName, AttentionTensor value)
    {
        TensorGuard.Input(query, queryName, device);
        TensorGuard.Input(value, "Value", device);
        DeviceGuard.OnlyOn(
            device, "Packed sequences of this operator", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
    }

    /// <summary>Checks that tensors have the rows of all sequences; the others of a call are checked against these.</summary>
    internal static void CheckRows(AttentionInputs inputs, PackedSequences packed)
    {
        CheckRows(inputs.Query, nameof(inputs.Query), packed.QueryStarts[^1], "query rows");
        CheckRows(inputs.Key, nameof(inputs.Key), packed.KeyStarts[^1], "key rows");
    }

    /// <summary>Number of this sequence's query rows.</summary>
    internal int QueryCount => packed.Queries(sequence).Count;

    /// <summary>Number of this sequence's keys.</summary>
    internal int KeyCount => packed.Keys(sequence).Count;

    /// <summary>Puts rows computed for the queries of this sequence into the whole tensor.</summary>
    internal void PlaceQueries(AttentionTensor? part, AttentionTensor? whole) => part?.CopyTo(Queries(whole, "target")!);

    /// <summary>Puts rows computed for the keys of this sequence into the whole tensor.</summary>
    internal void PlaceKeys(AttentionTensor? part, AttentionTensor? whole) => part?.CopyTo(Keys(whole, "target")!);

    /// <summary>Adds a gradient of something that all sequences share.</summary>
    internal static void Add(AttentionTensor? part, AttentionTensor? whole)
    {
        if (part is null || whole is null)
        {
            return;
        }

        HostArray<double> sum = HostArray<double>.Read(whole);
        HostArray<double> addend = HostArray<double>.Read(part);
        for (int n = 0; n < sum.Data.Length; n++)
        {
            sum.Data[n] += addend.Data[n];
        }

        sum.WriteTo(whole);
    }

    /// <summary>A gradient tensor for an input, filled with 0; none where there is no input.</summary>
    [return: NotNullIfNotNull(nameof(input))]
    internal static AttentionTensor? GradientOf(AttentionDevice device, AttentionTensor? input) =>
        input is null ? null : HostTensors.Allocate(device, input.Shape);

    public void Dispose()
    {
        foreach (AttentionTensor view in _views)
        {
            view.Dispose();
        }
    }

    private static void CheckRows(AttentionTensor tensor, string name, int all, string what)
    {
        if (tensor.Shape.Rows != all)
        {
            throw Guard.Tensor(name, $"{name} has shape {tensor.Shape}; the packed sequences have {all} {what}.");
        }
    }

    private AttentionTensor? View(AttentionTensor? tensor, string name, KeyRange rows, int all, string what)
    {
        if (tensor is null)
        {
            return null;
        }

        CheckRows(tensor, name, all, what);
        AttentionTensor view = tensor.Slice(2, rows.First, rows.Count);
        _views.Add(view);
        return view;
    }
}
