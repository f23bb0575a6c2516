using System.Buffers.Binary;
using System.IO.Compression;

namespace SieveAttention.Cli.Pictures;

/// <summary>Writes 8-bit RGB pictures in the PNG format (ISO/IEC 15948): signature, IHDR, text, one IDAT, IEND.</summary>
internal static class PngFile
{
    private static readonly uint[] s_checksumTable = MakeChecksumTable();

    /// <summary>Writes a picture.</summary>
    /// <param name="stream">Where to.</param>
    /// <param name="canvas">The pixels.</param>
    /// <param name="title">Latin-1 text kept in the file under the keyword Title.</param>
    public static void Write(Stream stream, Canvas canvas, string title)
    {
        stream.Write([0x89, (byte)'P', (byte)'N', (byte)'G', 0x0d, 0x0a, 0x1a, 0x0a]);

        Span<byte> header = stackalloc byte[13];
        BinaryPrimitives.WriteInt32BigEndian(header, canvas.Width);
        BinaryPrimitives.WriteInt32BigEndian(header[4..], canvas.Height);
        header[8] = 8; // bits a channel
        header[9] = 2; // truecolour
        header[10..].Clear(); // deflate, the only filter method, not interlaced
        WriteChunk(stream, "IHDR"u8, header);
        WriteChunk(stream, "tEXt"u8, [.. "Title\0"u8, .. System.Text.Encoding.Latin1.GetBytes(title)]);
        WriteChunk(stream, "IDAT"u8, Compress(canvas));
        WriteChunk(stream, "IEND"u8, []);
    }

    private static byte[] Compress(Canvas canvas)
    {
        using MemoryStream compressed = new();
        using (ZLibStream zlib = new(compressed, CompressionLevel.Optimal))
        {
            for (int y = 0; y < canvas.Height; y++)
            {
                zlib.WriteByte(0); // no filter: maps are flat areas and single dots, which deflate handles better as they are
                zlib.Write(canvas.Row(y));
            }
        }
        return compressed.ToArray();
    }

    private static void WriteChunk(Stream stream, ReadOnlySpan<byte> type, ReadOnlySpan<byte> data)
    {
        Span<byte> number = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
        stream.Write(number);
        stream.Write(type);
        stream.Write(data);
        BinaryPrimitives.WriteUInt32BigEndian(number, ~Checksum(Checksum(uint.MaxValue, type), data));
        stream.Write(number);
    }

    /// <summary>CRC-32 as in the PNG specification, without the final complement.</summary>
    private static uint Checksum(uint checksum, ReadOnlySpan<byte> data)
    {
        foreach (byte value in data)
        {
            checksum = s_checksumTable[(byte)(checksum ^ value)] ^ (checksum >> 8);
        }
        return checksum;
    }

    private static uint[] MakeChecksumTable()
    {
        uint[] table = new uint[256];
        for (uint i = 0; i < 256; i++)
        {
            uint value = i;
            for (int bit = 0; bit < 8; bit++)
            {
                value = (value >> 1) ^ ((value & 1) == 0 ? 0 : 0xedb88320);
            }
            table[i] = value;
        }
        return table;
    }
}
