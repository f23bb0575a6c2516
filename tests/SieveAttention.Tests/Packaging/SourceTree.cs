using System.Reflection;
using NUnit.Framework;

namespace SieveAttention.Tests.Packaging;

/// <summary>The checkout that these tests were built in; tests of its files skip where they run without it.</summary>
internal static class SourceTree
{
    /// <summary>The folder of SieveAttention.slnx; ignores the running test where there is none above the executable.</summary>
    public static string Root
    {
        get
        {
            for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            {
                if (File.Exists(Path.Combine(folder.FullName, "SieveAttention.slnx")))
                {
                    return folder.FullName;
                }
            }

            Assert.Ignore($"These tests run outside the source tree: no SieveAttention.slnx above {AppContext.BaseDirectory}.");
            return "";
        }
    }

    /// <summary>The version under test, which the packages carry in their names.</summary>
    public static string Version { get; } = typeof(AttentionTensor).Assembly
        .GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0];

    /// <summary>The folder that packages are made in.</summary>
    public static string Packages => Path.Combine(Root, "artifacts", "packages");

    /// <summary>The package of this version; ignores the running test where it was not made.</summary>
    public static string Package(string id, string extension = "nupkg")
    {
        string file = Path.Combine(Packages, $"{id}.{Version}.{extension}");
        if (!File.Exists(file))
        {
            Assert.Ignore($"There is no {file}: './build.sh pack' makes it.");
        }

        return file;
    }
}
