using SieveAttention.Decoding;
using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>
/// Keys and values of growing sequences in the memory of a CUDA device, as a decode step of <see cref="ThresholdDifferentialAttention"/> reads
/// them, with what is kept beside the keys; for callers with a cache of their own, and for captured graphs. B = sequences, Hkv = heads of keys
/// and values, D = head_dim, Dv = channels of values, N = capacity or page size. Lengths and page table are read when the kernels run, so that
/// a captured graph replays with grown caches. Does not own the tensors.
/// <code>
/// inverse norm of a key = 1 / max(|key|, 1e-12)
/// image of a key        = integers z and scale with |key / |key| - scale z| at most rho     (8 or 4 bits a channel, scale and rho 16 bits)
/// </code>
/// </summary>
/// <remarks>
/// Contiguous: row j of entry b is its key j. Paged: key j of entry b is row j modulo page size of page
/// <see cref="PageTable"/>[b, j / page size]; entries behind the valid keys are not read. Inverse norms and images are written by
/// <see cref="Append"/> and <see cref="Describe"/>. Thread-safe to read; writing has to be ordered with the steps on one stream.
/// </remarks>
public sealed record CachedThresholdKeys
{
    /// <summary>Keys that share an image.</summary>
    public const int KeysOfImage = DeviceSequences.PageUnit;

    private const string EntryAxes = "[batch or pages, key heads, keys, ";

    /// <summary>First key view, Float16 or BFloat16: [B, Hkv, N, D], or [pages, Hkv, N, D] with N a multiple of 16.</summary>
    public required AttentionTensor Key1 { get; init; }

    /// <summary>Values of the same type: [B or pages, Hkv, N, Dv].</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Second key view, of the shape and type of <see cref="Key1"/>; absent for the single-view operator.</summary>
    public AttentionTensor? Key2 { get; init; }

    /// <summary>Inverse norms of <see cref="Key1"/>, Float32 [B or pages, Hkv, N, 1].</summary>
    public required AttentionTensor InverseNorms1 { get; init; }

    /// <summary>Inverse norms of <see cref="Key2"/>; absent where it is.</summary>
    public AttentionTensor? InverseNorms2 { get; init; }

    /// <summary>What <see cref="Images1"/> and <see cref="Images2"/> hold.</summary>
    public KeyScreen Screen { get; init; }

    /// <summary>
    /// Images of <see cref="Key1"/>, Int32 [B or pages, Hkv, N / 16 rounded up, <see cref="ImageWords"/>], aligned to 16 bytes; absent without
    /// a screen.
    /// </summary>
    public AttentionTensor? Images1 { get; init; }

    /// <summary>Images of <see cref="Key2"/>; absent without a screen, and where it is.</summary>
    public AttentionTensor? Images2 { get; init; }

    /// <summary>Number of valid keys of each entry, Int32 [1, 1, 1, B], dense; all rows are valid when absent.</summary>
    public AttentionTensor? Lengths { get; init; }

    /// <summary>Pages of each entry in the order of its keys, Int32 [1, 1, B, pages of an entry], dense; contiguous when absent.</summary>
    public AttentionTensor? PageTable { get; init; }

    /// <summary>Number of sequences.</summary>
    internal int Sequences => PageTable?.Shape.Rows ?? Key1.Shape.Batch;

    /// <summary>32-bit words of the images of <see cref="KeysOfImage"/> keys of a head.</summary>
    /// <param name="screen">What they hold.</param>
    /// <param name="headDim">Channels of a key, 1 to 128.</param>
    /// <returns>The number; 0 without a screen.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such screen, or it has no images of so many channels.</exception>
    public static int ImageWords(KeyScreen screen, int headDim)
    {
        Guard.Defined(screen, nameof(screen));
        Guard.Between(1, 128, headDim, nameof(headDim));
        int channels = headDim <= 64 ? 64 : 128;
        return screen switch
        {
            KeyScreen.EightBits => (channels * KeysOfImage / 4) + KeysOfImage,
            KeyScreen.FourBits => (channels * KeysOfImage / 8) + KeysOfImage,
            _ => 0,
        };
    }

    /// <summary>
    /// Whether a decode step reads images: what native/operators/threshold_differential/decode_choice.h decides, for those who count bytes.
    /// </summary>
    internal static bool ReadsImages(KeyScreen screen, long rowsOfKeyHead) => screen != KeyScreen.None && rowsOfKeyHead <= 32;

    /// <summary>
    /// Puts the newest keys and values of every sequence into the cache, with inverse norms and images: the last T of its
    /// <see cref="Lengths"/> valid ones, which already count them. One launch; it can be captured in a graph.
    /// </summary>
    /// <param name="key1">[B, Hkv, T, D] in the type of the cache, in the memory of the device; dense channels, rows aligned to 16 bytes.</param>
    /// <param name="value">[B, Hkv, T, Dv].</param>
    /// <param name="key2">[B, Hkv, T, D]; exactly with a second view.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for these sizes; says which there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the stream has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Append(AttentionTensor key1, AttentionTensor value, AttentionTensor? key2 = null, AttentionStream? stream = null)
    {
        CudaDevice device = CheckTensors();
        ArgumentNullException.ThrowIfNull(key1);
        ArgumentNullException.ThrowIfNull(value);
        TensorShape keys = new(Sequences, Key1.Shape.Heads, key1.Shape.Rows, Key1.Shape.Channels);
        CheckNew(device, key1, nameof(key1), keys, "[sequences, key heads, new keys, head_dim]");
        CheckNew(
            device, value, nameof(value), keys with { Channels = Value.Shape.Channels }, "[sequences, key heads, new keys, value_dim]");
        if (key2 is null != Key2 is null)
        {
            throw Guard.Tensor(
                nameof(key2), $"key2 is {(key2 is null ? "absent" : "given")} and Key2 of the cache is {(Key2 is null ? "absent" : "given")}; " +
                "allowed: both, or neither.");
        }

        if (key2 is not null)
        {
            CheckNew(device, key2, nameof(key2), keys, "[sequences, key heads, new keys, head_dim]");
        }

        DeviceGuard.Queue(device, stream, workspace: null);
        NativeThresholdDecode.Append(device, this, key1.Shape.Rows, key1, value, key2, stream);
    }

    /// <summary>
    /// Writes inverse norms and images of keys that the caller has put into the cache himself: the last <paramref name="rows"/> of the valid
    /// ones of every sequence. One launch; it can be captured in a graph.
    /// </summary>
    /// <param name="rows">Newest keys of each sequence, at least 1; a sequence with fewer takes all.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentException">A tensor is misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The number is less than 1, or more than a sequence has room for.</exception>
    /// <exception cref="NotSupportedException">The device has no kernel for these sizes; says which there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the stream has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Describe(int rows, AttentionStream? stream = null)
    {
        CudaDevice device = CheckTensors();
        Guard.Between(1, (long)Key1.Shape.Rows * (PageTable?.Shape.Channels ?? 1), rows, nameof(rows));
        DeviceGuard.Queue(device, stream, workspace: null);
        NativeThresholdDecode.Append(device, this, rows, key1: null, value: null, key2: null, stream);
    }

    /// <summary>Disposes views that were made for one step.</summary>
    internal void DisposeViews()
    {
        foreach (AttentionTensor? view in
            (AttentionTensor?[])[Key1, Value, Key2, InverseNorms1, InverseNorms2, Images1, Images2, Lengths, PageTable])
        {
            view?.Dispose();
        }
    }

    /// <summary>Checks everything against the queries and gives the sizes of the step.</summary>
    internal AttentionProblem Check(CudaDevice device, AttentionMask mask, AttentionTensor query1, string queryName)
    {
        CachedKeys first = new() { Key = Key1, Value = Value, Lengths = Lengths, PageTable = PageTable };
        AttentionProblem problem = first.Check(device, mask, query1, queryName, nameof(Key1));
        CheckBesides(device);
        return problem;
    }

    /// <summary>Checks everything without queries.</summary>
    private CudaDevice CheckTensors()
    {
        if (Key1.Device is not CudaDevice device)
        {
            throw Guard.Tensor(nameof(Key1), $"Key1 is {Key1}; allowed: a tensor in the memory of a CUDA device.");
        }

        TensorGuard.Input(Key1, nameof(Key1), device);
        TensorGuard.Input(Value, nameof(Value), device);
        TensorGuard.Shape(Value, nameof(Value), Key1.Shape with { Channels = Value.Shape.Channels }, $"{EntryAxes}value_dim]");
        ProblemBuilder.CheckSameType(Key1, nameof(Key1), (Value, nameof(Value)));
        if (PageTable is { } table)
        {
            TensorGuard.Integers(
                table, nameof(PageTable), device, new TensorShape(1, 1, Sequences, table.Shape.Channels), "[1, 1, batch, pages of an entry]");
        }

        if (Lengths is { } lengths)
        {
            TensorGuard.Integers(lengths, nameof(Lengths), device, new TensorShape(1, 1, 1, Sequences), "[1, 1, 1, batch]");
        }

        CheckBesides(device);
        return device;
    }

    private void CheckBesides(CudaDevice device)
    {
        TensorShape keys = Key1.Shape;
        if (PageTable is not null && keys.Rows % KeysOfImage != 0)
        {
            throw Guard.Tensor(nameof(Key1), $"Key1 has pages of {keys.Rows} keys; allowed: multiples of {KeysOfImage}.");
        }

        Guard.Defined(Screen, nameof(Screen));
        CheckView(device, keys, InverseNorms1, nameof(InverseNorms1), Images1, nameof(Images1));
        if (Key2 is null)
        {
            Absent(InverseNorms2, nameof(InverseNorms2), "with Key2 only");
            Absent(Images2, nameof(Images2), "with Key2 only");
            return;
        }

        TensorGuard.Input(Key2, nameof(Key2), device);
        TensorGuard.Shape(Key2, nameof(Key2), keys, "the shape of Key1");
        ProblemBuilder.CheckSameType(Key1, nameof(Key1), (Key2, nameof(Key2)));
        CheckView(device, keys, InverseNorms2, nameof(InverseNorms2), Images2, nameof(Images2));
    }

    private void CheckView(
        CudaDevice device, TensorShape keys, AttentionTensor? norms, string normsName, AttentionTensor? images, string imagesName)
    {
        if (norms is null)
        {
            throw Guard.Tensor(normsName, $"{normsName} is absent; allowed: Float32 {keys with { Channels = 1 }}.");
        }

        TensorGuard.Output(norms, normsName, device, keys with { Channels = 1 }, $"{EntryAxes}1]", TensorType.Float32);
        if (Screen == KeyScreen.None)
        {
            Absent(images, imagesName, "with a screen only");
            return;
        }

        TensorShape shape = keys with
        {
            Rows = (keys.Rows + KeysOfImage - 1) / KeysOfImage, Channels = ImageWords(Screen, keys.Channels),
        };
        if (images is null)
        {
            throw Guard.Tensor(imagesName, $"{imagesName} is absent and Screen is {Screen}; allowed: Int32 {shape}.");
        }

        TensorGuard.Output(images, imagesName, device, shape, "[batch or pages, key heads, keys / 16, words]", TensorType.Int32);
    }

    private static void Absent(AttentionTensor? tensor, string name, string when)
    {
        if (tensor is not null)
        {
            throw Guard.Tensor(name, $"{name} is given; allowed: {when}.");
        }
    }

    private void CheckNew(CudaDevice device, AttentionTensor tensor, string name, TensorShape shape, string axes)
    {
        TensorGuard.Input(tensor, name, device);
        TensorGuard.Shape(tensor, name, shape, axes);
        TensorGuard.Type(tensor, name, Key1.Type);
    }
}
