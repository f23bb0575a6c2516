namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// One width of float vectors. Tile code is written once over this interface; the JIT compiles it per width with every call
/// inlined, so the source has no copy per instruction set. <see cref="LaneChoice"/> picks the width.
/// </summary>
/// <typeparam name="TVector">The vector type, e.g. <c>Vector512&lt;float&gt;</c>.</typeparam>
internal unsafe interface ILanes<TVector>
    where TVector : struct
{
    /// <summary>Floats in a vector. At most 64, a divisor of 64.</summary>
    static abstract int Count { get; }

    static abstract TVector Load(float* source);

    static abstract void Store(float* target, TVector value);

    static abstract TVector Broadcast(float value);

    /// <summary>a * b + c with one rounding.</summary>
    static abstract TVector MultiplyAdd(TVector a, TVector b, TVector c);

    static abstract TVector Add(TVector a, TVector b);

    static abstract TVector Subtract(TVector a, TVector b);

    static abstract TVector Multiply(TVector a, TVector b);

    /// <summary>Lanewise maximum; a NaN in <paramref name="a"/> or <paramref name="b"/> gives NaN.</summary>
    static abstract TVector Max(TVector a, TVector b);

    /// <summary>Lanes below <paramref name="low"/> or above <paramref name="high"/> become these; NaN stays NaN.</summary>
    static abstract TVector Clamp(TVector value, float low, float high);

    /// <summary>2^n for lanes that hold integers n from -2^22 to 128: 0 below -126, infinity at 128.</summary>
    static abstract TVector PowerOfTwo(TVector value);

    static abstract TVector Divide(TVector a, TVector b);

    /// <summary>Square root of each lane; NaN below 0.</summary>
    static abstract TVector Sqrt(TVector value);

    /// <summary>Natural logarithm of each lane; NaN below 0.</summary>
    static abstract TVector Log(TVector value);

    /// <summary>Bit c is set iff a[c] &gt; b[c]; never where one of them is NaN.</summary>
    static abstract ulong GreaterThan(TVector a, TVector b);

    /// <summary>Bit c is set iff not a[c] &lt;= b[c]: where a[c] &gt; b[c], and where one of them is NaN.</summary>
    static abstract ulong NotAtMost(TVector a, TVector b);

    /// <summary>Each lane of <paramref name="value"/> where not a &lt;= b, else +0.</summary>
    static abstract TVector WhereNotAtMost(TVector a, TVector b, TVector value);

    /// <summary>Sum of all lanes.</summary>
    static abstract float Sum(TVector value);

    /// <summary>Maximum of all lanes; NaN where one is NaN.</summary>
    static abstract float Largest(TVector value);

    /// <summary>Whether this machine multiplies bytes, which <see cref="AddByteProducts"/> and <see cref="ByteTotalsAbove"/> need.</summary>
    static abstract bool HasByteProducts { get; }

    /// <summary>
    /// Each 32-bit lane holds four bytes b0 to b3: adds b0 b0' + b1 b1' to its low 16-bit sum and b2 b2' + b3 b3' to its high one, modulo
    /// 2^16. The first bytes are unsigned, the second signed; the two products must sum to less than 2^15.
    /// </summary>
    static abstract TVector AddByteProducts(TVector unsignedBytes, TVector signedBytes, TVector sums);

    /// <summary>Bit c is set iff the total of the two 16-bit sums of lane c, as integers with a sign, exceeds a bound.</summary>
    static abstract ulong ByteTotalsAbove(TVector sums, int bound);
}
