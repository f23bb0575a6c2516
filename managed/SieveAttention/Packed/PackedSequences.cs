using System.Runtime.CompilerServices;

namespace SieveAttention;

/// <summary>
/// Sequences of different lengths that lie one behind the other in the rows of the same tensors. Sequence n has query rows
/// queryStarts[n] to queryStarts[n + 1] - 1 and key rows keyStarts[n] to keyStarts[n + 1] - 1; rows of one see nothing of another, and
/// positions, masks and numbers of visible keys begin anew in each. Immutable, thread-safe; the first call on a CUDA device puts the numbers
/// into its memory, later ones find them there.
/// </summary>
public sealed class PackedSequences
{
    private readonly int[] _queryStarts;
    private readonly int[] _keyStarts;
    private readonly ConditionalWeakTable<CudaDevice, DeviceStarts> _onDevices = [];

    /// <summary>Makes the description.</summary>
    /// <param name="queryStarts">First query row of each sequence and, last, the number of query rows: from 0, never falling.</param>
    /// <param name="keyStarts">The same for keys, as many; a sequence with queries has at least one key.</param>
    /// <exception cref="ArgumentException">The numbers do not describe sequences; says where.</exception>
    public PackedSequences(IReadOnlyList<int> queryStarts, IReadOnlyList<int> keyStarts)
    {
        _queryStarts = Checked(queryStarts, nameof(queryStarts));
        _keyStarts = Checked(keyStarts, nameof(keyStarts));
        if (_keyStarts.Length != _queryStarts.Length)
        {
            throw Guard.Values(
                nameof(keyStarts),
                $"keyStarts has {_keyStarts.Length} numbers and queryStarts has {_queryStarts.Length}; allowed: as many of both.");
        }

        for (int n = 0; n < Count; n++)
        {
            if (Queries(n).Count > 0 && Keys(n).Count == 0)
            {
                throw Guard.Values(
                    nameof(keyStarts), $"Sequence {n} has {Queries(n).Count} query rows and no key; allowed: at least one key.");
            }
        }
    }

    /// <summary>Number of sequences.</summary>
    public int Count => _queryStarts.Length - 1;

    /// <summary>First query row of each sequence and the number of query rows.</summary>
    public IReadOnlyList<int> QueryStarts => _queryStarts;

    /// <summary>First key row of each sequence and the number of key rows.</summary>
    public IReadOnlyList<int> KeyStarts => _keyStarts;

    /// <summary>Query rows of a sequence.</summary>
    internal KeyRange Queries(int sequence) => new(_queryStarts[sequence], _queryStarts[sequence + 1]);

    /// <summary>Key rows of a sequence.</summary>
    internal KeyRange Keys(int sequence) => new(_keyStarts[sequence], _keyStarts[sequence + 1]);

    /// <summary>The numbers in the memory of a device.</summary>
    internal DeviceStarts On(CudaDevice device) => _onDevices.GetValue(device, key => DeviceStarts.Upload(key, this));

    /// <summary>Calls work for each sequence that has query rows; views made for it are disposed after it.</summary>
    internal void ForEach(Action<PackedViews> work)
    {
        for (int n = 0; n < Count; n++)
        {
            if (Queries(n).Count > 0)
            {
                using PackedViews views = new(this, n);
                work(views);
            }
        }
    }

    private static int[] Checked(IReadOnlyList<int> starts, string name)
    {
        ArgumentNullException.ThrowIfNull(starts, name);
        if (starts.Count < 2 || starts[0] != 0)
        {
            string from = starts.Count > 0 ? $" from {starts[0]}" : string.Empty;
            throw Guard.Values(name, $"{name} has {starts.Count} numbers{from}; allowed: at least 2 from 0.");
        }

        for (int n = 1; n < starts.Count; n++)
        {
            if (starts[n] < starts[n - 1])
            {
                throw Guard.Values(name, $"{name}[{n}] is {starts[n]} after {starts[n - 1]}; allowed: numbers that do not fall.");
            }
        }

        return [.. starts];
    }
}
