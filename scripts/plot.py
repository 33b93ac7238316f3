from training.figures import main

if __name__ == "__main__":
    main()
