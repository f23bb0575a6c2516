using System.Globalization;

namespace SieveAttention;

/// <summary>
/// A bfloat16 number: the upper half of an IEEE binary32, with its range and 8 significant bits. Two bytes, without
/// arithmetic: convert to <see cref="float"/> (exact), compute, and convert back (one rounding, to nearest, ties to even).
/// </summary>
/// <remarks>Equality is that of the numbers, as for <see cref="float"/>: +0 equals -0. Immutable, hence safe to share.</remarks>
public readonly struct BFloat16 : IEquatable<BFloat16>
{
    private readonly ushort _bits;

    private BFloat16(ushort bits)
    {
        _bits = bits;
    }

    /// <summary>Makes a number from its representation: sign, 8 exponent bits, 7 fraction bits.</summary>
    /// <param name="bits">The representation.</param>
    /// <returns>The number.</returns>
    public static BFloat16 FromBits(ushort bits) => new(bits);

    /// <summary>Returns the representation: sign, 8 exponent bits, 7 fraction bits.</summary>
    /// <returns>The representation.</returns>
    public ushort ToBits() => _bits;

    /// <summary>Rounds to the nearest bfloat16, ties to even; beyond the range to infinity; NaN stays NaN.</summary>
    /// <param name="value">The number to round.</param>
    public static explicit operator BFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        if (float.IsNaN(value))
        {
            // The payload may lie in the lower half only: set the quiet bit so that it does not become infinity.
            return new BFloat16((ushort)((bits >> 16) | 0x40));
        }

        uint roundHalfToEven = 0x7FFF + ((bits >> 16) & 1);
        return new BFloat16((ushort)((bits + roundHalfToEven) >> 16));
    }

    /// <summary>Rounds to the nearest bfloat16 in one step, ties to even.</summary>
    /// <param name="value">The number to round.</param>
    public static explicit operator BFloat16(double value)
    {
        // Going through a rounded float could round twice. Rounding to odd instead keeps in the last bit of the float that
        // something was cut off, which decides ties correctly (the float has more than two bits to spare).
        float nearest = (float)value;
        if (nearest == value || double.IsNaN(value))
        {
            return (BFloat16)nearest;
        }

        uint bits = BitConverter.SingleToUInt32Bits(nearest);
        if ((bits & 1) == 0)
        {
            bits = Math.Abs((double)nearest) > Math.Abs(value) ? bits - 1 : bits + 1;
        }

        return (BFloat16)BitConverter.UInt32BitsToSingle(bits);
    }

    /// <summary>Widens exactly.</summary>
    /// <param name="value">The number to widen.</param>
    public static implicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value._bits << 16);

    /// <summary>Compares as <see cref="float"/> does.</summary>
    /// <param name="left">First number.</param>
    /// <param name="right">Second number.</param>
    /// <returns>Whether the numbers are equal; NaN equals nothing.</returns>
    public static bool operator ==(BFloat16 left, BFloat16 right) => (float)left == (float)right;

    /// <summary>Compares as <see cref="float"/> does.</summary>
    /// <param name="left">First number.</param>
    /// <param name="right">Second number.</param>
    /// <returns>Whether the numbers differ.</returns>
    public static bool operator !=(BFloat16 left, BFloat16 right) => (float)left != (float)right;

    /// <inheritdoc/>
    public bool Equals(BFloat16 other) => ((float)this).Equals((float)other);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is BFloat16 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ((float)this).GetHashCode();

    /// <summary>Writes the number as a <see cref="float"/> would, independent of culture.</summary>
    /// <returns>The text.</returns>
    public override string ToString() => ((float)this).ToString(CultureInfo.InvariantCulture);
}
