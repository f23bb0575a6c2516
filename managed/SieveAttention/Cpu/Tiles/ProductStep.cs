using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>What a matrix product does with one element of A and a vector of B.</summary>
internal interface IProductStep<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    static abstract TVector Add(TVector a, TVector b, TVector sum);
}

/// <summary>Floats: sum + a * b with one rounding.</summary>
internal readonly struct FloatStep<TLanes, TVector> : IProductStep<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Add(TVector a, TVector b, TVector sum) => TLanes.MultiplyAdd(a, b, sum);
}

/// <summary>Elements of four bytes, see <see cref="ILanes{TVector}.AddByteProducts"/>: four times the products of a float step.</summary>
internal readonly struct ByteStep<TLanes, TVector> : IProductStep<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVector Add(TVector a, TVector b, TVector sum) => TLanes.AddByteProducts(a, b, sum);
}
