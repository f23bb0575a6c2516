using System.Runtime.Intrinsics;

namespace SieveAttention.Cpu.Tiles;

/// <summary>Work that is compiled once per vector width; run by <see cref="LaneChoice"/>.</summary>
internal interface ILaneWork
{
    void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct;
}

/// <summary>The one place where a vector width is chosen.</summary>
internal static class LaneChoice
{
    /// <summary>Floats in the widest vector that this machine computes on in hardware: 16, 8 or 4.</summary>
    internal static int Widest => Vector512.IsHardwareAccelerated ? 16 : Vector256.IsHardwareAccelerated ? 8 : 4;

    /// <summary>Whether vectors of a width have byte products, see <see cref="ILanes{TVector}.HasByteProducts"/>.</summary>
    internal static bool HasByteProducts(int? width = null) => (width ?? Widest) switch
    {
        16 => Lanes512.HasByteProducts,
        8 => Lanes256.HasByteProducts,
        _ => Lanes128.HasByteProducts,
    };

    /// <summary>Runs work on the widest vectors of this machine, or on vectors of <paramref name="width"/> floats (16, 8 or 4).</summary>
    internal static void Run<TWork>(TWork work, int? width = null)
        where TWork : ILaneWork
    {
        switch (width ?? Widest)
        {
            case 16:
                work.Run<Lanes512, Vector512<float>>();
                break;
            case 8:
                work.Run<Lanes256, Vector256<float>>();
                break;
            case 4:
                work.Run<Lanes128, Vector128<float>>();
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(width), width, "Vectors have 16, 8 or 4 floats.");
        }
    }
}
