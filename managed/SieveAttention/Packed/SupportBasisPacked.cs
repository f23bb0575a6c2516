namespace SieveAttention;

/// <summary><see cref="SupportBasisAttention"/> of packed sequences of different lengths, on the Reference and Cpu devices.</summary>
public static class SupportBasisPacked
{
    /// <summary>Computes every sequence as a call of its own over its rows, into new tensors as Forward does.</summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static SupportBasisResult Forward(
        this SupportBasisAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        TensorShape query = inputs.Query.Shape;
        SupportBasisResult result = new(
            HostTensors.Allocate(attention.Device, query with { Channels = inputs.Value.Shape.Channels }));
        double exact = 0;
        long tiles = 0;
        sequences.ForEach(part =>
        {
            SupportBasisResult own = new(part.Queries(result.Output, "Output"));
            attention.Forward(part.Inputs(inputs), own);
            long count = Tiles(attention.Options, part.QueryCount, part.KeyCount);
            exact += own.ExactFraction * count;
            tiles += count;
        });
        result.ExactFraction = tiles == 0 ? 0 : exact / tiles;
        return result;
    }

    /// <summary>Computes the gradients, with sums over sequences where they share an input or parameter.</summary>
    /// <param name="attention">The operator.</param>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, rows of all sequences, Dv].</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Backward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static AttentionGradients Backward(
        this SupportBasisAttention attention, AttentionInputs inputs, AttentionTensor outputGradient, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        PackedGradientSum sum = new(attention.Device, inputs, attention.Options.Scores.RowFactor);
        sequences.ForEach(part =>
        {
            using AttentionGradients gradients = attention.Backward(
                part.Inputs(inputs), part.Queries(outputGradient, nameof(outputGradient)));
            sum.Add(part, gradients);
        });
        return new AttentionGradients(sum.Tensors);
    }

    /// <summary>Tiles of a head with at least one visible pair: what the exact fraction of a sequence is a share of.</summary>
    private static long Tiles(SupportBasisOptions options, int queries, int keys)
    {
        AttentionMask mask = options.Mask;
        AttentionProblem problem = new(
            1, 1, 1, queries, keys, 1, 1, mask.Causal, mask.QueryOffset ?? ((long)keys - queries), mask.Window ?? 0);
        long tiles = 0;
        for (int first = 0; first < queries;)
        {
            int count = Math.Min(options.Tile, queries - first);
            int last = -1;
            for (int row = first; row < first + count; row++)
            {
                // Both ends of the visible range grow with the row.
                KeyRange visible = problem.Visible(row);
                for (int tile = Math.Max(last + 1, visible.First / options.Tile);
                     visible.Count > 0 && tile <= (visible.End - 1) / options.Tile;
                     tile++)
                {
                    tiles++;
                    last = tile;
                }
            }

            first += count;
        }

        return tiles;
    }

    private static void Check(SupportBasisAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        PackedViews.Check(attention.Device, inputs.Query, nameof(inputs.Query), inputs.Value);
    }
}
