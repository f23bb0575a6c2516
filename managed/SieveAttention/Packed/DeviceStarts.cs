namespace SieveAttention;

/// <summary>The starts of packed sequences in the memory of a CUDA device, Int32 [1, 1, 1, count + 1].</summary>
/// <param name="Queries">First query row of each sequence.</param>
/// <param name="Keys">First key row of each sequence.</param>
/// <param name="Count">Number of sequences.</param>
/// <param name="LongestQuery">Most query rows of a sequence.</param>
internal sealed record DeviceStarts(AttentionTensor Queries, AttentionTensor Keys, int Count, int LongestQuery)
{
    internal static DeviceStarts Upload(CudaDevice device, PackedSequences sequences)
    {
        int longest = 0;
        for (int n = 0; n < sequences.Count; n++)
        {
            longest = Math.Max(longest, sequences.Queries(n).Count);
        }

        TensorShape shape = new(1, 1, 1, sequences.Count + 1);
        return new DeviceStarts(
            device.Upload<int>([.. sequences.QueryStarts], shape),
            device.Upload<int>([.. sequences.KeyStarts], shape),
            sequences.Count,
            longest);
    }
}
