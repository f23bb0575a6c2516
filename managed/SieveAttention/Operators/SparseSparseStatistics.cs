using System.Numerics;

namespace SieveAttention;

/// <summary>
/// How much the sparse stream of <see cref="SparseSparseAttention"/> leaves out, one value a query row, [B, Hq, Tq, 1]; outputs are those
/// before norm, scale and gate. Theorem 1 of arXiv 2511.20102: error &lt;= error bound. Owns its tensors. Thread-safe to read.
/// </summary>
public sealed class SparseSparseStatistics : IDisposable
{
    internal SparseSparseStatistics()
    {
    }

    /// <summary>delta = 1 - exp(L_s - L_f), the mass of full attention on keys of blocks that were not selected; 0 to 1.</summary>
    public required AttentionTensor DroppedMass { get; init; }

    /// <summary>|o_f - o_s|, the Euclidean distance of both outputs.</summary>
    public required AttentionTensor Error { get; init; }

    /// <summary>delta (max over dropped keys of |v_j| + |o_s|).</summary>
    public required AttentionTensor ErrorBound { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        DroppedMass.Dispose();
        Error.Dispose();
        ErrorBound.Dispose();
    }

    /// <summary>Computes the statistics from both streams before the epilogue.</summary>
    internal static SparseSparseStatistics Of<T>(in AttentionProblem problem, SparseSparseForward<T> streams, HostArray<T> v)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        HostArray<T> mass = new(problem.RowShape);
        HostArray<T> error = new(problem.RowShape);
        HostArray<T> bound = new(problem.RowShape);
        int group = problem.QueryHeads / problem.KeyHeads;
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int g = 0; g < problem.KeyHeads; g++)
            {
                DroppedValues dropped = DroppedValues.Of(problem, streams.Blocks!, v, b, g);
                for (int i = 0; i < problem.Queries; i++)
                {
                    double largest = dropped.LargestNorm(i);
                    for (int h = g * group; h < (g + 1) * group; h++)
                    {
                        int row = (((b * problem.QueryHeads) + h) * problem.Queries) + i;
                        double sparseLse = double.CreateTruncating(streams.Sparse!.LogSumExp[row]);
                        double fullLse = double.CreateTruncating(streams.Full!.LogSumExp[row]);
                        double delta = Math.Max(0, 1 - Math.Exp(sparseLse - fullLse));
                        ReadOnlySpan<T> sparse = streams.Sparse.Output.Row(b, h, i);
                        mass.Data[row] = T.CreateTruncating(delta);
                        error.Data[row] = T.CreateTruncating(Distance(streams.Full.Output.Row(b, h, i), sparse));
                        bound.Data[row] = T.CreateTruncating(delta * (largest + Distance(sparse, [])));
                    }
                }
            }
        }

        return new SparseSparseStatistics
        {
            DroppedMass = HostTensors.Wrap(mass),
            Error = HostTensors.Wrap(error),
            ErrorBound = HostTensors.Wrap(bound),
        };
    }

    /// <summary>|x - y|; |x| where y is empty.</summary>
    private static double Distance<T>(ReadOnlySpan<T> x, ReadOnlySpan<T> y)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        double sum = 0;
        for (int c = 0; c < x.Length; c++)
        {
            double d = double.CreateTruncating(x[c]) - (y.IsEmpty ? 0 : double.CreateTruncating(y[c]));
            sum += d * d;
        }

        return Math.Sqrt(sum);
    }

    /// <summary>Norms of the values of one key head, and the largest of each block.</summary>
    private sealed record DroppedValues(
        AttentionProblem Problem, BlockLists Blocks, int Batch, int KeyHead, double[] Norms, double[] LargestOfBlock)
    {
        internal static DroppedValues Of<T>(in AttentionProblem problem, BlockLists blocks, HostArray<T> v, int batch, int keyHead)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            double[] norms = new double[problem.Keys];
            double[] largest = new double[((problem.Keys - 1) / blocks.BlockSize) + 1];
            for (int j = 0; j < norms.Length; j++)
            {
                norms[j] = Distance(v.Row(batch, keyHead, j), []);
                int block = j / blocks.BlockSize;
                largest[block] = Math.Max(largest[block], norms[j]);
            }

            return new DroppedValues(problem, blocks, batch, keyHead, norms, largest);
        }

        /// <summary>Largest norm among the visible keys of a row that are not selected; 0 where all are.</summary>
        internal double LargestNorm(int row)
        {
            ReadOnlySpan<int> list = Blocks.Used(Batch, KeyHead, row);
            int end = Problem.Visible(row).End;
            int own = (end - 1) / Blocks.BlockSize;
            double largest = 0;
            int next = 0;
            for (int block = 0; block <= own; block++)
            {
                if (next < list.Length && list[next] == block)
                {
                    next++;
                }
                else if (block < own)
                {
                    largest = Math.Max(largest, LargestOfBlock[block]);
                }
                else
                {
                    for (int j = block * Blocks.BlockSize; j < end; j++)
                    {
                        largest = Math.Max(largest, Norms[j]);
                    }
                }
            }

            return largest;
        }
    }
}
