from training.exporting import main

if __name__ == "__main__":
    main()
