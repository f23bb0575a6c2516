using System.Diagnostics;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using NUnit.Framework;
using SieveAttention.Interop;

namespace SieveAttention.Tests.Interop;

/// <summary>The committed bindings agree with the header, with the C compiler's layouts and with the library's exports.</summary>
public sealed class BindingsTests
{
    private static readonly string s_beside = AppContext.BaseDirectory;

    [Test]
    public void Bindings_were_generated_from_this_header()
    {
        byte[] header = File.ReadAllBytes(Path.Combine(s_beside, "attention.h"));
        Assert.That(Convert.ToHexStringLower(SHA256.HashData(header)), Is.EqualTo(SieveHeader.Sha256),
            "native/include/sieve/attention.h changed: run the generator in bindings/");
    }

    [Test]
    public void Structures_have_the_sizes_and_offsets_of_the_C_compiler()
    {
        Dictionary<string, (int Size, Dictionary<string, (int Offset, int Size)> Fields)> native = NativeLayout();
        Dictionary<string, Type> managed = typeof(SieveNative).Assembly.GetTypes()
            .Where(type => type.Namespace == "SieveAttention.Interop" && type.StructLayoutAttribute?.Value == LayoutKind.Explicit)
            .ToDictionary(type => type.Name);
        Assert.That(managed.Keys, Is.EquivalentTo(native.Keys), "structures of attention.h and of the bindings");
        using (Assert.EnterMultipleScope())
        {
            foreach ((string name, (int size, Dictionary<string, (int Offset, int Size)> fields)) in native)
            {
                Dictionary<string, (int Offset, int Size)> bound = managed[name]
                    .GetFields(BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public)
                    .ToDictionary(field => field.Name, field => (field.GetCustomAttribute<FieldOffsetAttribute>()!.Value, SizeOf(field)));
                Assert.That(SizeOf(managed[name]), Is.EqualTo(size), name);
                Assert.That(bound, Is.EquivalentTo(fields), name);
            }
        }
    }

    [Test]
    public void Every_import_is_exported_and_every_export_is_imported()
    {
        string[] imports = [.. typeof(SieveNative).GetMethods(BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public)
            .Select(method => method.GetCustomAttribute<DllImportAttribute>())
            .OfType<DllImportAttribute>()
            .Select(import => import.EntryPoint!)];
        string[] exports = [.. Run("nm", "-D", "--defined-only", Beside("libsieve_attention.so"))
            .Select(line => line.Split(' ')[^1])];
        Assert.That(imports, Is.Not.Empty);
        Assert.That(exports, Is.EquivalentTo(imports));
    }

    private static Dictionary<string, (int Size, Dictionary<string, (int Offset, int Size)> Fields)> NativeLayout()
    {
        var layout = new Dictionary<string, (int Size, Dictionary<string, (int, int)> Fields)>();
        Dictionary<string, (int, int)> fields = [];
        foreach (string line in Run(Beside("sieve_abi_layout")))
        {
            string[] parts = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            int first = int.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture);
            int second = int.Parse(parts[2], System.Globalization.CultureInfo.InvariantCulture);
            if (line[0] == ' ')
            {
                fields.Add(parts[0], (first, second));
            }
            else
            {
                fields = [];
                layout.Add(string.Concat(parts[0].Split('_').Select(word => char.ToUpperInvariant(word[0]) + word[1..])), (first, fields));
            }
        }

        return layout;
    }

    private static int SizeOf(FieldInfo field) => field.GetCustomAttribute<FixedBufferAttribute>() is { } buffer
        ? buffer.Length * SizeOf(buffer.ElementType)
        : SizeOf(field.FieldType);

    private static int SizeOf(Type type) => type.IsFunctionPointer || type.IsUnmanagedFunctionPointer ? nint.Size
        : (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type).Invoke(null, null)!;

    private static string Beside(string name)
    {
        string path = Path.Combine(s_beside, name);
        if (!File.Exists(path))
        {
            Assert.Ignore($"{name} is not beside the tests: the native library was not built (no CMake or C++ compiler)");
        }

        return path;
    }

    private static string[] Run(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true };
        Process? started;
        try
        {
            started = Process.Start(start);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore($"{program} is not installed");
            throw;
        }

        using Process process = started!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero, program);
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
